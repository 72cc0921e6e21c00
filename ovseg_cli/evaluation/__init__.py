"""Label maps scored against ground truth, by class, photo and region."""
