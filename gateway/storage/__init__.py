"""Where audio is kept: a directory, or Cloud Storage."""
