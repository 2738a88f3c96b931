"""Whose call it is: `ai_context` and what it reads. Needs OpenTelemetry's API only."""
