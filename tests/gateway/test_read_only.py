"""A read-only root file system with a writable spool, as in a container.

Mounting one needs rights that a test lacks. Instead, an audit hook in each Python of the gateway
refuses the same system calls.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from tests.delivery.capture_server import Answer, CaptureServer
from tests.gateway.conftest import StartGateway, environment, some_spans, span_ids
from tests.support.waiting import until

PROTOBUF = {"Content-Type": "application/x-protobuf"}

READ_ONLY = """
import errno, os, sys

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGING = {"os." + name for name in "mkdir rename remove rmdir link symlink truncate chmod".split()}

def refuse(event, args):
    writes = event in CHANGING or (event == "open" and args[2] & WRITING)
    if not writes or not isinstance(args[0], (str, bytes, os.PathLike)):
        return
    path = os.path.abspath(os.fsdecode(args[0]))
    if path != os.devnull and not (path + os.sep).startswith(os.environ["WRITABLE"] + os.sep):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

sys.addaudithook(refuse)
for write in (lambda: open(os.path.join(os.environ["NOT_WRITABLE"], "x"), "w"), lambda: os.mkdir("/tmp/x")):
    try:
        write()
    except OSError as error:
        if error.errno == errno.EROFS:
            continue
    os._exit(77)
open(os.path.join(os.environ["WRITABLE"], f"python-{os.getpid()}"), "w").close()
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_it_writes_to_the_spool_alone(
    start_gateway: StartGateway, posthog: CaptureServer, tmp_path: Path, workers: int
) -> None:
    spool, hook = tmp_path / "spool", tmp_path / "hook"
    spool.mkdir()
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(READ_ONLY)
    path = f"{hook}:{environment('')['PYTHONPATH']}"
    environ = {"PYTHONPATH": path, "WRITABLE": str(spool), "NOT_WRITABLE": str(tmp_path)}
    posthog.faults.extend([Answer(503)] * 10_000)
    gateway = start_gateway(
        *("--workers", str(workers), "--grpc-port", "0"), environ=environ, spool_dir=str(spool), timeout="1"
    )
    body = some_spans(3).SerializeToString()
    assert requests.post(f"{gateway.url}/v1/traces", body, headers=PROTOBUF, timeout=30).status_code == 200
    assert "otel_posthog_gateway_spool_entries" in requests.get(f"{gateway.url}/metrics", timeout=30).text
    posthog.faults.clear()
    until(lambda: span_ids(posthog) == [1, 2, 3], "the events in the spool arrive")
    assert len([*spool.glob("python-*")]) >= workers
    assert gateway.end() == 0
    assert [line for line in gateway.lines() if line["level"] == "error"] == []
    assert {each.name for each in tmp_path.iterdir()} == {"spool", "hook", "gateway-0.log"}
