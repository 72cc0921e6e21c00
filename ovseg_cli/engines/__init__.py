"""Ways to run the work of a segmentation run on something else than the own threads."""
