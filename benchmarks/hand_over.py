"""The cost of a span's end for the application, and the memory of an outage takes, by durability.

    python -m benchmarks.hand_over

Each row is a process of its own in which PostHog is away. The spans are those of `benchmarks.export`, about
2.4 KB each, ended one after the other; the figures are the median and the 99th percentile of one `on_end`.
"""

from __future__ import annotations

import logging
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import main_or_help

ROWS: dict[str, dict[str, Any]] = {
    "in memory": {},
    "in memory, full": {"max_queue_bytes": 8_000_000},
    "spool, overflow, memory full": {"max_queue_bytes": 8_000_000, "spool_dir": ""},
    "spool, always": {"spool_dir": "", "durability": "always"},
    "spool, always, content hidden": {"spool_dir": "", "durability": "always", "capture_content": False},
    "spool, always, a mask": {"spool_dir": "", "durability": "always", "mask": lambda value, *_: value},
}
SPANS = 4000


def measure(name: str) -> None:
    from benchmarks.material import chat_spans
    from otel_posthog import PostHogSpanProcessor

    logging.disable()
    options = {**ROWS[name]}
    if "spool_dir" in options:
        options["spool_dir"] = tempfile.mkdtemp()
    spans = chat_spans(SPANS)
    processor = PostHogSpanProcessor(api_key="phc_x", endpoint="http://127.0.0.1:9", **options)
    processor.on_end(spans[0])  # everything is loaded, the thread is there
    time.sleep(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = []
    for _ in range(10):
        for span in spans:
            began = time.perf_counter_ns()
            processor.on_end(span)
            took.append((time.perf_counter_ns() - began) / 1000)
    time.sleep(2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    took.sort()
    bound = processor.stats()["queue"]["max_bytes"] / 2**20
    print(
        f"{name:32}{statistics.median(took):9.1f}{took[len(took) * 99 // 100]:9.1f}"
        f"{peak / 1024:9.1f} MiB over the start, bound {bound:.0f} MiB",
        flush=True,
    )
    processor.forwarder._client.close(abort=True)


def main() -> None:
    if len(sys.argv) > 1:
        measure(sys.argv[1])
        return
    print(f"{'':32}{'median':>9}{'p99 us':>9}{'memory':>9}", flush=True)
    for name in ROWS:
        subprocess.run([sys.executable, "-m", "benchmarks.hand_over", name], check=True)


if __name__ == "__main__":
    main_or_help(main, __doc__)
