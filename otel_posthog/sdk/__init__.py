"""The OpenTelemetry SDK side: exporter, processor, context, `configure()` and the zero-code entry points."""
