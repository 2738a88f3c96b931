"""A chat service in Python: OpenTelemetry's own SDK and exporter, our instrumentor, the `openai` client.

Each line of standard input is a number of calls to make; the answer is a line with their spans, once the
Collector has accepted them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from openai import OpenAI
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from instrumentors import OpenAIInstrumentor
from otel_posthog import ai_context


class Remember(SpanExporter):
    """Records the exported spans; a batch processor reports none."""

    def __init__(self) -> None:
        self._exporter = OTLPSpanExporter()
        self.exported: list[tuple[str, str, str]] = []
        self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.lost += len(spans)
            return result
        for span in spans:
            context, attributes = span.context, span.attributes or {}
            self.exported.append(
                (
                    format(context.trace_id, "032x"),
                    format(context.span_id, "016x"),
                    str(attributes.get("gen_ai.operation.name")),
                )
            )
        return result


def main() -> None:
    remember = Remember()
    provider = TracerProvider(resource=Resource({"service.name": "chat-in-python"}))
    provider.add_span_processor(BatchSpanProcessor(remember))
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    client = OpenAI()
    calls = 0
    for line in sys.stdin:
        for _ in range(int(line)):
            with ai_context(feature="python", user_id=f"python_{calls}"):
                client.chat.completions.create(
                    model="gpt-5.1",
                    messages=[{"role": "user", "content": f"hello from Python, number {calls}"}],
                )
            calls += 1
        provider.force_flush()
        assert not remember.lost, f"{remember.lost} spans were not exported"
        print(json.dumps(remember.exported), flush=True)  # noqa: T201 - the answer
        remember.exported.clear()


main()
