"""The context of a call: `ai_context`, and everything that instrumentors may import of us.

This package needs OpenTelemetry's API, not its SDK.
"""
