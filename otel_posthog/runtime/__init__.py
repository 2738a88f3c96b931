"""The process this code runs in: its log, forks and threads. It knows nothing of the domain."""
