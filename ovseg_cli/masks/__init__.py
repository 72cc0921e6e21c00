"""Masks that no network of ours proposes: of segments, of SAM, of files."""
