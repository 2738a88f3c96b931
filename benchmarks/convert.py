"""CPU time of turning spans into events, without encoding or sending, and of costing a call.

    python -m benchmarks.convert

Chat spans of about 2.4 KB, 32 at a time as the exporter has them. A plain `genai_prices.calc_price` is
measured in the same run: machines differ, the ratio to it hardly does. Figures are medians of rounds that
take turns.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

from genai_prices import Usage, calc_price
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

from benchmarks import main_or_help
from benchmarks.material import chat_spans
from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.pricing.cost import PriceBook
from otel_posthog.conversion.spans.sdk_span import view_of_sdk_span
from otel_posthog.conversion.spans.span_view import SpanView
from otel_posthog.conversion.traces import SpanHistory

SPANS, TOGETHER, ROUNDS = 1024, 32, 15


def others(count: int) -> list[ReadableSpan]:
    """Spans that are none of ours."""
    attributes: dict[str, str | int] = {
        "http.request.method": "GET",
        "http.route": "/chats/{chat_id}",
        "http.response.status_code": 200,
        "url.path": "/chats/7",
        "url.scheme": "https",
        "server.address": "chat.example",
        "client.address": "10.0.0.7",
        "network.protocol.version": "1.1",
        "user_agent.original": "Mozilla/5.0",
    }
    flags = TraceFlags(TraceFlags.SAMPLED)
    return [
        ReadableSpan(
            name="GET /chats/{chat_id}",
            context=SpanContext(number + 1, number + 1, is_remote=False, trace_flags=flags),
            resource=Resource({"service.name": "chat-api"}),
            attributes=attributes,
        )
        for number in range(count)
    ]


def main() -> None:
    spans, foreign = chat_spans(SPANS), others(SPANS)
    pipeline = Pipeline(families=frozenset({"ai"}), prices=None)
    usage = Usage(input_tokens=800, output_tokens=150, cache_read_tokens=512)

    def convert() -> None:
        history = SpanHistory()
        for start in range(0, SPANS, TOGETHER):
            views = [view for span in spans[start : start + TOGETHER] if (view := view_of_sdk_span(span))]
            pipeline.finished_events(*views, history=history)

    def only_read() -> None:
        for span in spans:
            view = view_of_sdk_span(span)
            assert isinstance(view, SpanView)
            pipeline.read(view)

    def pass_over() -> None:
        for span in foreign:
            view_of_sdk_span(span)

    def price() -> None:
        for _ in range(SPANS):
            calc_price(usage, "gpt-5.1", provider_id="openai")

    book = PriceBook()
    calls = [pipeline.read(view) for span in spans if (view := view_of_sdk_span(span))]

    def cost() -> None:
        for call in calls:
            book.cost(call)

    rows: dict[str, Callable[[], None]] = {
        "a chat span to its $ai_generation": convert,
        "... of that, to its ModelCall": only_read,
        "a span that is none of ours": pass_over,
        "what a chat call cost": cost,
        "genai_prices.calc_price, for comparison": price,
    }
    measured: dict[str, list[float]] = {name: [] for name in rows}
    gc.collect()
    gc.freeze()  # the material is not what is measured
    for turn in range(ROUNDS + 1):
        for name, run in rows.items():
            before = time.process_time()
            run()
            if turn:  # the first round warms up
                measured[name].append((time.process_time() - before) / SPANS * 1e6)
    yardstick = statistics.median(measured["genai_prices.calc_price, for comparison"])
    for name, figures in measured.items():
        median = statistics.median(figures)
        print(f"{name:42}{median:8.2f} us{median / yardstick:8.3f} of calc_price")


if __name__ == "__main__":
    main_or_help(main, __doc__)
