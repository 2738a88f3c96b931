"""OTLP comes in from a Collector, PostHog events go out.

Small modules, one concern each. `decode` makes spans of the bytes of a request, `ingest` makes events of the
spans and sees them delivered or on disk; both know nothing of who asks. `app` is the ASGI application before
them, `connections` what uvicorn is told about slow clients, `serve` the process around them.
"""
