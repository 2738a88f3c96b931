"""A span from anywhere, in one shape."""
