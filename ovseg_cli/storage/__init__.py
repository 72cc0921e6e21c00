"""Results and photos that are no files of their own: object stores and tar archives."""
