"""The rules on what may leave the process."""
