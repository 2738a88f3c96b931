"""The dialects that instrumentors speak: one module each, most of it a table."""
