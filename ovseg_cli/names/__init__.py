"""What may be wrong with names, which compete with them, and which a photo may have."""
