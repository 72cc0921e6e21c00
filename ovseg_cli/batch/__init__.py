"""Many photos through a segmenter, within time and memory."""
