"""Readers of attribute values that several dialects share."""
