"""CPU time of this process per span: conversion, encoding, compression and sending, side by side in one run.

    python -m benchmarks.export

Rows take turns, so that a slow moment of the machine hits all of them; the figure is the median of the
rounds, the ratio that to `posthog.ai.otel.PostHogTraceExporter`.
"""

from __future__ import annotations

import logging
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from posthog import Posthog
from posthog.ai.otel import PostHogTraceExporter

from benchmarks.material import chat_spans, sink
from otel_posthog import PostHogSpanExporter
from otel_posthog.spans.view import of_sdk_span

SPANS, BATCH, ROUNDS = 2000, 100, 9
"""PostHog's own route takes at most 100 AI spans a request."""


def batches(spans: list[ReadableSpan]) -> list[list[ReadableSpan]]:
    return [spans[start : start + BATCH] for start in range(0, len(spans), BATCH)]


def exporting(exporter: Any, spans: list[ReadableSpan]) -> Callable[[], None]:
    def run() -> None:
        for batch in batches(spans):
            exporter.export(batch)

    return run


def capturing(client: Posthog, events: list[dict[str, Any]]) -> Callable[[], None]:
    def run() -> None:
        for event in events:
            client.capture(
                event["event"], distinct_id=event["distinct_id"], properties={**event["properties"]}
            )
        client.flush()

    return run


def main() -> None:
    logging.disable()
    spans = chat_spans(SPANS)
    with sink() as host:
        ours = {
            events: PostHogSpanExporter(api_key="phc_x", endpoint=host, events=events)
            for events in ("ai", "ai,llm_completion")
        }
        forwarder = ours["ai"].forwarder
        views = [view for span in spans if (view := of_sdk_span(span)) is not None]
        events = forwarder.convert(views, forwarder.pipeline.finished)
        rows: dict[str, Callable[[], None]] = {
            "posthog.ai.otel.PostHogTraceExporter": exporting(PostHogTraceExporter("phc_x", host), spans),
            "otel-posthog, events=ai": exporting(ours["ai"], spans),
            "otel-posthog, events=ai,llm_completion": exporting(ours["ai,llm_completion"], spans),
            "otel-posthog, events=ai, no compression": exporting(
                PostHogSpanExporter(api_key="phc_x", endpoint=host, events="ai", compression="none"), spans
            ),
            "Posthog.capture of ready-made events": capturing(Posthog("phc_x", host=host), events),
            "Posthog.capture of the same, gzip": capturing(Posthog("phc_x", host=host, gzip=True), events),
        }
        measured: dict[str, list[float]] = {name: [] for name in rows}
        for turn in range(ROUNDS + 1):
            for name, run in rows.items():
                before = time.process_time()
                run()
                if turn:  # the first round warms up
                    measured[name].append((time.process_time() - before) / SPANS * 1e6)
            print(f"\rround {turn} of {ROUNDS}", end="", file=sys.stderr)
        print(file=sys.stderr)
    medians = {name: statistics.median(found) for name, found in measured.items()}
    reference = medians["posthog.ai.otel.PostHogTraceExporter"]
    print(f"{'':42}{'us/span':>9}{'ratio':>8}")
    for name, median in medians.items():
        print(f"{name:42}{median:9.1f}{median / reference:8.2f}")


if __name__ == "__main__":
    main()
