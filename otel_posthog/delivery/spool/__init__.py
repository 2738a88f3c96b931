"""The spool: events and spans that wait on disk."""
