"""The cost of a call."""
