"""The process this code runs in: its log, forks and threads. Knows nothing of the domain."""
