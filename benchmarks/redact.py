"""Milliseconds of CPU for a megabyte of text, with every kind asked for and with none.

    python -m benchmarks.redact

Ordinary text, JSON and digits; then what is made to be slow: texts that nearly are what is looked for, over
and over. `twice as long` is the time for two megabytes over that for one: 2 if it grows with the text.
The last rows are what every span pays: the look for keys in a chat span of 2.4 KB. Medians of rounds.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable

from benchmarks import main_or_help
from benchmarks.material import chat_spans, text
from otel_posthog.conversion.model_call import ModelCall
from otel_posthog.conversion.pipeline import Pipeline
from otel_posthog.conversion.privacy.redaction import KINDS, redact_call, redact_content, redactor
from otel_posthog.conversion.spans.sdk_span import view_of_sdk_span

MEGABYTE, ROUNDS = 1_000_000, 5


def ordinary(randomly: random.Random) -> dict[str, str]:
    """Texts of every day; one line in forty of the second chat says something personal."""
    sample = text(180_000, randomly)
    personal = " Write to jane.doe@example.com or call +1 415-555-2671, card 4111 1111 1111 1111. "
    pieces = [sample[at : at + 2000] for at in range(0, MEGABYTE, 2000)]
    log = "".join(
        f"2026-01-{day:02d}T10:{minute:02d}:07.123Z INFO worker-{minute} took {minute * 1.7:.3f}s, "
        f"id {day * 7919}\n"
        for day in range(1, 29)
        for minute in range(60)
    )
    rows = [
        {
            "id": f"item_{number}",
            "name": text(6, randomly),
            "price": randomly.random() * 100,
            "total_tokens": randomly.randrange(10**5),
            "at": "2026-01-05T10:11:12.123456+00:00",
            "tags": ["a-b", "c_d"],
        }
        for number in range(8000)
    ]
    return {
        "chat": sample,
        "chat with personal data": personal.join(pieces),
        "logs": log * 12,
        "JSON": json.dumps(rows),
        "an embedding as JSON": json.dumps([randomly.random() - 0.5 for _ in range(60_000)]),
        "digits in one piece": "No. " + "".join(randomly.choices("0123456789", k=MEGABYTE)),
        "numbers of 1 to 12 digits": " ".join(
            str(randomly.randrange(10 ** randomly.randint(1, 12))) for _ in range(200_000)
        ),
    }


ADVERSARIAL = {
    "a": "a",
    "@": "@",
    "a@": "a@",
    "a@aa...a.": "a@" + "a." * 8,
    "a@ and 63 letters": "a@" + "a" * 63,
    "-": "-",
    "sk-": "sk-",
    "sk-a": "sk-aaaaaaaaaaaaaaaaaaaaaaaaaaaaa ",
    "eyJ": "eyJ",
    "eyJaaaaaaaa.": "eyJaaaaaaaa.",
    "authorization=": "authorization=",
    "bearer=": "bearer=",
    "api_key=": "api_key=",
    "4444 ": "4444 ",
    "4-": "4-",
    "1.": "1.",
    "1:": "1:",
    "::": "::",
    "abcd::": "abcd::",
    "DE89 ": "DE89 ",
    "DE89A": "DE89A",
    "+1 ": "+1 ",
    "0(0)": "0(0)",
    "+1(2)3(4)": "+1(2)3(4)5(6)7",
    "078-05-": "078-05-",
    "password=": "password=",
    "password is ": "password is ",
    "tokentoken": "token",
    "phone: ": "phone: ",
    "://a:": "://a:",
    "-----BEGIN": "-----BEGIN PRIVATE KEY",
}
"""Samples that are repeated up to a megabyte."""


def milliseconds(run: Callable[[str], str], sample: str) -> float:
    spent = []
    for _ in range(ROUNDS):
        before = time.process_time()
        run(sample)
        spent.append(time.process_time() - before)
    return statistics.median(spent) * 1e9 / len(sample)


def per_span() -> None:
    pipeline = Pipeline(families=frozenset({"ai"}), prices=None)
    views = [view for span in chat_spans(512) if (view := view_of_sdk_span(span))]
    calls = [pipeline.read(view) for view in views]
    redact = redactor(KINDS)
    steps: dict[str, Callable[[ModelCall], object]] = {
        "always on": lambda call: redact_content(redact_call(call, None), None),
        "all kinds": lambda call: redact_content(redact_call(call, redact), redact),
        "nothing": lambda call: call,
    }
    figures: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(15):
        for name, step in steps.items():
            before = time.process_time()
            for call in calls:
                step(call)
            figures[name].append((time.process_time() - before) / len(calls) * 1e6)
    for name, times in figures.items():
        print(f"a chat span, {name:27}{statistics.median(times):8.2f} us")


def main() -> None:
    every, none = redactor(KINDS), redactor()
    texts = ordinary(random.Random(17))
    texts |= {
        f"{name} ...": "! " + sample * (MEGABYTE // len(sample)) for name, sample in ADVERSARIAL.items()
    }
    print(f"{'ms per MB':40}{'all kinds':>12}{'always on':>12}{'twice as long':>15}")
    for name, sample in texts.items():
        cost = milliseconds(every, sample)
        growth = 2 * milliseconds(every, sample * 2) / cost
        print(f"{name:40}{cost:12.1f}{milliseconds(none, sample):12.1f}{growth:15.2f}")
    per_span()


if __name__ == "__main__":
    main_or_help(main, __doc__)
