"""The cost of a call: unit prices, a table of them or a file of the user's own, and the arithmetic."""
