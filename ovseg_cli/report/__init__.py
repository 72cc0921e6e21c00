"""The HTML page of a finished run."""
