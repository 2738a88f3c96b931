"""Options: one row each, and how arguments and the environment resolve to a `Config`."""
