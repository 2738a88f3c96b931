"""Options: one row each in `options`; arguments and the environment become a `Config` in `resolve`."""
