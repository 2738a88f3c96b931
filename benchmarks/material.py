"""The material of the benchmarks: chat spans of about 2.4 KB, and a sink that answers at once."""

from __future__ import annotations

import contextlib
import http.server
import json
import multiprocessing
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

_SENTENCES = """the model answered that our tenants mostly ask about invoices delivery dates refunds and
the weather while a smaller group wants pictures of cats dogs houses bridges or the sea at night in winter;
what costs most is the long history of a conversation which is sent again with every single message even
though nobody reads beyond the last few lines so a summary every twenty turns would save two thirds"""
WORDS = _SENTENCES.split()


def text(words: int, randomly: random.Random) -> str:
    """Prose of so many words; its numbers keep it from compressing too well."""
    return " ".join(
        randomly.choice(WORDS) if randomly.random() < 0.85 else str(randomly.randrange(10**6))
        for _ in range(words)
    )


class _Keep(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None: ...


def chat_spans(count: int) -> list[ReadableSpan]:
    """Ended chat spans in the newest conventions, with messages, usage and context."""
    randomly = random.Random(17)
    keep = _Keep()
    provider = TracerProvider(resource=Resource({"service.name": "chat-api"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(keep))
    tracer = provider.get_tracer("otel_posthog.openai", "0.1.0")
    for number in range(count):
        messages = [
            {"role": "system", "parts": [{"type": "text", "content": text(40, randomly)}]},
            {"role": "user", "parts": [{"type": "text", "content": text(130, randomly)}]},
        ]
        answer = [{"role": "assistant", "parts": [{"type": "text", "content": text(90, randomly)}]}]
        tracer.start_span(
            "chat gpt-5.1",
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-5.1",
                "gen_ai.request.temperature": 0.5,
                "gen_ai.request.max_tokens": 400,
                "gen_ai.input.messages": json.dumps(messages),
                "gen_ai.output.messages": json.dumps(answer),
                "gen_ai.response.model": "gpt-5.1-2025-11-13",
                "gen_ai.response.id": f"chatcmpl-{number:032x}",
                "gen_ai.response.finish_reasons": ["stop"],
                "gen_ai.usage.input_tokens": 800 + number % 100,
                "gen_ai.usage.output_tokens": 150,
                "gen_ai.usage.cache_read.input_tokens": 512,
                "server.address": "api.openai.com",
                "server.port": 443,
                "posthog.distinct_id": f"user_{number % 500}",
                "posthog.feature": "smart_reply",
                "posthog.chat_id": f"chat-{number % 900}",
            },
        ).end()
    return keep.spans


class _Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    delay = 0.0
    disable_nagle_algorithm = True  # else every answer waits 40 ms for an acknowledgement
    wbufsize = -1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(self.delay)
        body = b'{"status":"Ok"}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


def _serve(ports: Any, delay: float) -> None:
    _Sink.delay = delay
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    ports.send(server.server_address[1])
    server.serve_forever()


@contextlib.contextmanager
def sink(delay: float = 0.0) -> Iterator[str]:
    """The address of a server in a process of its own that takes everything, after so many seconds."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, delay), daemon=True)
    process.start()
    yield f"http://127.0.0.1:{ours.recv()}"
    process.kill()
