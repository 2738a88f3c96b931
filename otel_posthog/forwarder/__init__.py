"""Options in, delivered events out: the seam that every front uses."""
