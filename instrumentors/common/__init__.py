"""Everything that both instrumentors share."""
