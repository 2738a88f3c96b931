"""The rules that decide which content, users, credentials and media may leave the process."""
