"""Running a block against an inbox and providers on this machine, and comparing what arrived."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from otel_posthog.demo.fake_providers import FakeProviders
from otel_posthog.local import Inbox
from tests.docs.blocks import Block
from tests.support.paths import ROOT

SECONDS = 60


def environment(inbox: Inbox, providers: FakeProviders | None = None) -> dict[str, str]:
    """Return what a process needs that runs a block; `python` and our commands are those of the tests."""
    variables = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "POSTHOG_API_KEY": "phc_test",
        "POSTHOG_HOST": inbox.url,
    }
    if providers is not None:
        variables |= {
            "OPENAI_API_KEY": "sk-x",
            "OPENAI_BASE_URL": providers.openai_base_url,
            "GEMINI_API_KEY": "x",
            "GOOGLE_GEMINI_BASE_URL": providers.gemini_base_url,
        }
    return variables


def check_output(block: Block, done: subprocess.CompletedProcess[str]) -> None:
    """Compare exit status, standard output and standard error with what the block's page expects."""
    assert done.returncode == 0, done.stderr
    assert re.search(block.expected.get("prints", ""), done.stdout), done.stdout
    if "logs" in block.expected:
        assert re.search(block.expected["logs"], done.stderr), done.stderr
    else:
        assert done.stderr == ""


def check_events(block: Block, inbox: Inbox) -> None:
    """Compare what arrived with what the block's page expects."""
    for name, expected in block.expected.get("sends", {}).items():
        wanted = expected if isinstance(expected, list) else [expected]
        arrived = [event["properties"] for event in inbox.events(name)]
        assert len(arrived) == len(wanted), (name, [event["event"] for event in inbox.events()])
        for properties in wanted:
            assert any(matches(each, properties) for each in arrived), json.dumps(arrived, indent=1)
    for name in block.expected.get("drops", ()):
        assert inbox.events(name) == []


def matches(value: Any, expected: Any) -> bool:
    """Whether a value is the expected one; objects may have more members, `*` is anything, None missing."""
    if expected == "*":
        return value is not None
    if isinstance(expected, Mapping):
        return isinstance(value, Mapping) and all(
            matches(value.get(name), each) for name, each in expected.items()
        )
    return bool(value == expected)
