"""Events become bytes."""
