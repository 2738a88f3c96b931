"""The demo end to end, in a process of its own: real clients, spans, exporter and inbox."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

from otel_posthog.demo.product import AFTERNOON, FEATURES
from otel_posthog.demo.report import rows, table
from otel_posthog.local import Inbox
from tests.delivery.capture_server import Answer, capture_server

#: `otel-posthog demo`, with the waiting taken out.
QUICK = """
import functools, sys
from otel_posthog import cli
from otel_posthog.demo import run
run.run = functools.partial(run.run, latency=0, chunk_pause=0, flush_millis=int(sys.argv[1]))
sys.exit(cli.main(["demo"]))
"""

FOREIGN = re.compile(r"OTEL_|POSTHOG_|OPENAI_|GEMINI_|GOOGLE_|.*_proxy$", re.IGNORECASE)


def demo(flush_millis: int = 20_000, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    return subprocess.run(
        [sys.executable, "-c", QUICK, str(flush_millis)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**kept, **environ},
    )


COMPLETE = "24 calls, 24 requested, 23 succeeded, 1 failed, 24 generations: nothing lost, nothing twice."


def test_a_new_user_sees_the_table_and_that_nothing_is_lost() -> None:
    done = demo()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Models: a stand-in on this machine")
    assert lines[1].startswith("Events: go to an inbox on this machine")
    assert len([one for one in lines if re.match(r" ?\d+/24 ", one)]) == 24
    assert COMPLETE in lines
    start = next(place for place, one in enumerate(lines) if one.startswith("feature "))
    found = {one.split()[0]: one.split()[1:] for one in lines[start : lines.index(COMPLETE)] if one}
    assert list(found) == ["feature", "-" * 16, *sorted(FEATURES), "total"]
    for feature in FEATURES:
        calls, failures, tokens, cost, average, *_ = found[feature]
        assert (calls, failures) == ("3", "1" if feature == "smart_replies" else "0")
        assert int(tokens.replace(",", "")) > 0
        assert float(cost.removeprefix("$")) > 0
        assert int(average) >= 0
    assert found["total"][:2] == ["24", "1"]
    after = [one for one in lines[lines.index(COMPLETE) + 1 :] if one]
    assert len(after) == 2


def test_with_a_key_events_go_to_posthog_and_it_says_so() -> None:
    with Inbox() as posthog:
        done = demo(POSTHOG_API_KEY="phc_project", POSTHOG_HOST=posthog.url)
        arrived = posthog.events()
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Events: go to PostHog at {posthog.url}, as POSTHOG_API_KEY is set." in done.stdout
    assert f"{COMPLETE} Counted as they left;" in done.stdout
    assert table(rows(arrived)) in done.stdout
    names = Counter(one["event"] for one in arrived)
    assert {name: names[name] for name in ("llm_completion_requested", "$ai_generation")} == {
        "llm_completion_requested": 24,
        "$ai_generation": 24,
    }
    contexts = {(moment.feature, moment.chat_id, moment.user_id) for moment in AFTERNOON}
    for one in arrived:
        properties = one["properties"]
        assert (properties["feature"], properties["chat_id"], one["distinct_id"]) in contexts
        assert one["_inbox"]["copies"] == 1
        assert one["_inbox"]["path"] == ("/i/v0/ai/batch/" if one["event"].startswith("$ai_") else "/batch/")


def test_what_does_not_arrive_is_said_and_the_exit_status_is_1() -> None:
    done = demo(OTEL_TRACES_SAMPLER="always_off")
    assert done.returncode == 1
    assert "24 calls, 0 requested, 0 succeeded, 0 failed, 0 generations: 72 lost" in done.stdout


def test_a_posthog_that_does_not_answer_is_no_success() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    done = demo(200, POSTHOG_API_KEY="phc_project", POSTHOG_HOST=f"http://127.0.0.1:{port}")
    assert done.returncode == 1
    assert done.stdout.endswith(
        f"\nNothing arrived: PostHog at http://127.0.0.1:{port} was not reached, or took no event of these"
        " 24 calls. Check POSTHOG_HOST and POSTHOG_API_KEY.\n"
    )
    for word in ("requested", "do not belong", "Counted"):
        assert word not in done.stdout
    assert "Traceback" not in done.stderr


def test_what_only_a_disk_has_has_not_arrived(tmp_path: Path) -> None:
    with capture_server() as server:
        server.faults += [Answer(401)]
        done = demo(
            POSTHOG_API_KEY="phc_project",
            POSTHOG_HOST=server.url,
            OTEL_EXPORTER_POSTHOG_SPOOL_DIR=str(tmp_path),
        )
    assert done.returncode == 1
    assert "Nothing arrived: " in done.stdout


def test_with_a_key_and_no_events_it_is_not_posthog_that_is_at_fault() -> None:
    with Inbox() as posthog:
        done = demo(POSTHOG_API_KEY="phc_project", POSTHOG_HOST=posthog.url, OTEL_TRACES_SAMPLER="always_off")
    assert done.returncode == 1
    assert "0 requested" in done.stdout
    assert "Nothing arrived" not in done.stdout


def test_what_arrives_in_part_only_is_no_success() -> None:
    with capture_server() as server:
        server.faults += [Answer(200), *[Answer(401)] * 4]
        done = demo(200, POSTHOG_API_KEY="phc_project", POSTHOG_HOST=server.url)
    assert done.returncode == 1
    assert "Not everything could be delivered within 0.2 seconds." in done.stdout
