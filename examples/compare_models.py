"""Two models behind a feature flag: what each variant costs, and how long its users wait.

    python examples/compare_models.py

The flag is evaluated as an application would (`posthog.evaluate_flags(user)`; here, with no PostHog to ask, a
split by the user's id), its variant picks the model, and `ai_context(flags=...)` puts `$feature/<key>` on
every event: an experiment in PostHog over `$ai_total_cost_usd` or `$ai_latency` needs nothing more. Calls go
to a stand-in and events to an inbox, both on this machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any, NamedTuple
from zlib import crc32

from openai import OpenAI

from otel_posthog import ai_context, configure
from otel_posthog.demo.fake_providers import FakeProviders
from otel_posthog.local import Inbox

FLAG = "smart-reply-model"
MODELS = {"control": "gpt-5.1", "small": "gpt-5-mini"}


class Result(NamedTuple):
    """The figures of one variant."""

    variant: str
    model: str
    calls: int
    users: int
    cost: float
    """US dollars a call, the mean."""
    latency: float
    """Seconds, the median."""


def flags_of(user: str) -> dict[str, str]:
    """Split the users in halves, as PostHog would."""
    return {FLAG: "small" if crc32(user.encode()) % 2 else "control"}


def reply(client: OpenAI, user: str) -> None:
    """Answer one message of a user with the model of their variant."""
    flags = flags_of(user)
    with ai_context(feature="smart_replies", user_id=user, flags=flags):
        client.chat.completions.create(
            model=MODELS[flags[FLAG]],
            messages=[{"role": "user", "content": f"Three short replies for {user}"}],
        )


def results(events: Iterable[Mapping[str, Any]]) -> list[Result]:
    """Return the figures that PostHog would show for each variant of the flag."""
    by_variant: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        by_variant.setdefault(event["properties"]["$feature/" + FLAG], []).append(event)
    return [
        Result(
            variant,
            rows[0]["properties"]["$ai_model"],
            len(rows),
            len({event["distinct_id"] for event in rows}),
            sum(event["properties"]["$ai_total_cost_usd"] for event in rows) / len(rows),
            median(event["properties"]["$ai_latency"] for event in rows),
        )
        for variant, rows in sorted(by_variant.items())
    ]


def main(users: int = 40) -> list[Result]:
    """Make a call for each user and print a line for each variant."""
    with Inbox() as inbox, FakeProviders(latency=(0.01, 0.05)) as models:
        processor = configure(api_key="phc_local", endpoint=inbox.url)
        with OpenAI(api_key="stand-in", base_url=models.openai_base_url) as client:
            for number in range(users):
                reply(client, f"user_{number}")
        processor.force_flush()
        rows = results(inbox.events("$ai_generation"))
        processor.shutdown()
    print(f"{'variant':<10}{'model':<14}{'calls':>6}{'users':>6}{'$/call':>12}{'median':>10}")
    for each in rows:
        print(
            f"{each.variant:<10}{each.model:<14}{each.calls:>6}{each.users:>6}{each.cost:>12.6f}"
            f"{each.latency * 1000:>7,.0f} ms"
        )
    return rows


if __name__ == "__main__":
    main()
