"""CPU time of this process per span: conversion, encoding, compression and sending, side by side in one run.

    python -m benchmarks.export

Rows take turns batch by batch, so that a slow moment of the machine hits all of them. The figure is the
median of the rounds, the ratio the median of each round's own to `posthog.ai.otel.PostHogTraceExporter`.
"""

from __future__ import annotations

import gc
import logging
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from posthog import Posthog
from posthog.ai.otel import PostHogTraceExporter

from benchmarks import main_or_help
from benchmarks.material import chat_spans, sink
from otel_posthog import PostHogSpanExporter
from otel_posthog.conversion.spans.sdk_span import view_of_sdk_span

SPANS, BATCH, ROUNDS = 2000, 100, 15
"""PostHog's own route takes at most 100 AI spans a request."""

Row = Callable[[int], None]
"""Sends the batch of that number."""


def exporting(exporter: Any, batches: list[list[ReadableSpan]]) -> Row:
    return lambda number: exporter.export(batches[number])


def capturing(client: Posthog, batches: list[list[dict[str, Any]]]) -> Row:
    def run(number: int) -> None:
        for event in batches[number]:
            properties = {**event["properties"]}
            client.capture(event["event"], distinct_id=event["distinct_id"], properties=properties)
        client.flush()

    return run


def measure(rows: dict[str, Row], batches: int) -> dict[str, list[float]]:
    """Microseconds of CPU a span, a figure a round; rows take turns batch by batch."""
    gc.collect()
    gc.freeze()  # the material is not what is measured, nor is the collector's walk over it
    measured: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(ROUNDS + 1):
        spent = dict.fromkeys(rows, 0.0)
        for number in range(batches):
            for name, run in rows.items():
                before = time.process_time()
                run(number)
                spent[name] += time.process_time() - before
        if turn:  # the first round warms up
            for name, seconds in spent.items():
                measured[name].append(seconds / SPANS * 1e6)
        print(f"\rround {turn} of {ROUNDS}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return measured


def main() -> None:
    logging.disable()
    spans = chat_spans(SPANS)
    batches = [spans[start : start + BATCH] for start in range(0, SPANS, BATCH)]
    with sink() as host:

        def ours(**options: Any) -> PostHogSpanExporter:
            return PostHogSpanExporter(api_key="phc_x", endpoint=host, **options)

        forwarder = ours(events="ai").forwarder
        events = [
            list(forwarder._converter.finished(filter(None, map(view_of_sdk_span, batch))))
            for batch in batches
        ]
        measured = measure(
            {
                REFERENCE: exporting(PostHogTraceExporter("phc_x", host), batches),
                "otel-posthog, events=ai": exporting(ours(events="ai"), batches),
                "otel-posthog, events=ai, no compression": exporting(
                    ours(events="ai", compression="none"), batches
                ),
                "otel-posthog, events=ai,llm_completion": exporting(ours(), batches),
                "Posthog.capture of ready-made events": capturing(Posthog("phc_x", host=host), events),
                "Posthog.capture of the same, gzip": capturing(
                    Posthog("phc_x", host=host, gzip=True), events
                ),
            },
            len(batches),
        )
    print(f"{'':42}{'us/span':>9}{'ratio':>8}")
    for name, times in measured.items():
        ratio = statistics.median(one / other for one, other in zip(times, measured[REFERENCE], strict=True))
        print(f"{name:42}{statistics.median(times):9.1f}{ratio:8.2f}")


REFERENCE = "posthog.ai.otel.PostHogTraceExporter"

if __name__ == "__main__":
    main_or_help(main, __doc__)
