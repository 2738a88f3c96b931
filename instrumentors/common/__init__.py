"""What both instrumentors share."""
