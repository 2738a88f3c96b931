"""Every block of Python in the pages runs as it stands, and the events that it promises arrive."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from otel_posthog.demo.fake_providers import FakeProviders
from otel_posthog.local import Inbox
from tests.docs.blocks import Block, blocks
from tests.docs.programs import PROGRAMS
from tests.docs.running import SECONDS, check_events, check_output, environment

PYTHON = blocks("python")
RUN_BY_ITSELF = [block for block in PYTHON if "file" not in block.expected]


@pytest.mark.parametrize("block", RUN_BY_ITSELF, ids=lambda block: block.place)
def test_a_python_block_runs_and_its_events_arrive(
    block: Block, providers: FakeProviders, tmp_path: Path
) -> None:
    before, then = (PROGRAMS.get(block.expected.get(key, ""), "") for key in ("before", "then"))
    (tmp_path / "app.py").write_text(before + block.text + then)
    with Inbox() as inbox:
        done = subprocess.run(
            [sys.executable, "app.py"],
            cwd=tmp_path,
            env=environment(inbox, providers) | block.expected.get("environment", {}),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        check_output(block, done)
        check_events(block, inbox)


@pytest.mark.parametrize("block", RUN_BY_ITSELF, ids=lambda block: block.place)
def test_a_python_block_promises_events(block: Block) -> None:
    assert block.expected.get("sends") or block.expected.get("drops"), "nothing shows that it has an effect"


@pytest.mark.parametrize(
    "block", [block for block in PYTHON if "file" in block.expected], ids=lambda block: block.place
)
def test_a_named_python_block_is_run_by_a_shell_block(block: Block) -> None:
    assert any(block.expected["file"] in shell.text for shell in blocks("bash", page=block.page))
