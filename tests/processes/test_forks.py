"""Processes that fork: every span of parent and child arrives once, and no process hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from otel_posthog.local import Inbox
from tests.processes.conftest import PRELUDE, Run, arrived, environment
from tests.support.price_server import price_server

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")

QUIET = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"  # of forks beside threads
MODES = {
    "memory": {},
    "overflow": {"spool_dir": "spool", "max_queue_bytes": "20000"},
    "always": {"spool_dir": "spool", "durability": "always"},
}

FORKS = {
    "fork": """
for child in range(5):
    pid = os.fork()
    if not pid:
        spans(20, f"child {child}")
        sys.exit(0)
    os.waitpid(pid, 0)
""",
    "fork in threads": """
def fork(child):
    pid = os.fork()
    if not pid:
        spans(20, f"child {child}")
        handle.force_flush(20_000)
        os._exit(0)
    os.waitpid(pid, 0)
forks = [threading.Thread(target=fork, args=(child,)) for child in range(5)]
[each.start() for each in forks]
[each.join() for each in forks]
""",
    "multiprocessing": """
import multiprocessing
context = multiprocessing.get_context("fork")
children = [context.Process(target=spans, args=(20, f"child {child}")) for child in range(5)]
[child.start() for child in children]
[child.join() for child in children]
""",
    "a pool": """
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    pool.starmap(spans, [(20, f"child {child}") for child in range(5)])
    pool.close()
    pool.join()
""",
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fork", FORKS)
def test_a_fork_under_load_of_eight_threads_loses_and_doubles_nothing(
    fork: str, mode: str, inbox: Inbox, run: Run, tmp_path: Path
) -> None:
    options = {name: value.replace("spool", str(tmp_path)) for name, value in MODES[mode].items()}
    code = f"""
handle = configure(flush_interval=0.01)
over = threading.Event()
counts = [0] * 8
def load(at):
    while not over.is_set():
        spans(1, f"thread {{at}}")
        counts[at] += 1
        time.sleep(0.01)
threads = [threading.Thread(target=load, args=(at,), daemon=True) for at in range(8)]
[thread.start() for thread in threads]
{FORKS[fork]}
over.set()
[thread.join() for thread in threads]
print(counts)
"""
    done = run(QUIET + code, **options)
    run("assert configure().force_flush(20_000)", **options)
    counts = dict(zip((f"thread {at}" for at in range(8)), eval(done.stdout.splitlines()[-1]), strict=True))
    children = {f"child {child}": 20 for child in range(5)}
    assert arrived(inbox) == {name: count for name, count in counts.items() if count} | children


def test_a_child_that_is_terminated_sends_its_spans(inbox: Inbox, run: Run) -> None:
    code = """
import multiprocessing
def work():
    spans(20, "child")
    ready.set()
    time.sleep(60)
context = multiprocessing.get_context("fork")
ready = context.Event()
configure()
spans(1)
child = context.Process(target=work)
child.start()
ready.wait(20)
child.terminate()
child.join()
"""
    run(QUIET + code)
    assert arrived(inbox) == {"main": 1, "child": 20}


def test_nothing_is_imported_by_the_first_request(inbox: Inbox, run: Run) -> None:
    """An import that a fork interrupts never ends in the child."""
    code = """
handle = configure(flush_interval=60)
spans(1)
before = {*sys.modules}
assert handle.force_flush(20_000)
print(sorted({*sys.modules} - before))
"""
    assert run(code).stdout == "[]\n"
    assert arrived(inbox) == {"main": 1}


def test_kill_9_at_any_moment_loses_no_span_whose_end_returned(inbox: Inbox, tmp_path: Path) -> None:
    """Forty children of one process that has imported everything, each killed at another moment."""
    code = """
import random
chance = random.Random(4)
handle = configure(flush_interval=0.005)
for child in range(40):
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        for number in range(100_000):
            spans(1, f"{child} {number}")
            os.write(write, b".")
    os.close(write)
    os.read(read, 1)  # it has begun
    time.sleep(chance.random() * 0.06)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    returned = 1
    while got := os.read(read, 65536):
        returned += len(got)
    os.close(read)
    print(child, returned, flush=True)
"""
    options = {"spool_dir": str(tmp_path), "durability": "always"}
    done = subprocess.run(
        [sys.executable, "-c", QUIET + PRELUDE + code],
        env=environment(inbox, **options),
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    returned = {int(child): int(count) for child, count in map(str.split, done.stdout.splitlines())}
    assert len(returned) == 40
    # The leases of the dead run out in a minute; this clock is an hour ahead.
    later = """
handle = configure()
handle.forwarder._backlog._spool._clock = lambda: time.monotonic() + 3600
assert handle.force_flush(60_000)
assert handle.stats()["spool"]["entries"] == 0, handle.stats()
"""
    subprocess.run(
        [sys.executable, "-c", PRELUDE + later], env=environment(inbox, **options), check=True, timeout=120
    )
    there = {event["properties"]["who"] for event in inbox.events("$ai_generation")}
    missing = [
        f"{child} {number}"
        for child, count in returned.items()
        for number in range(count)
        if f"{child} {number}" not in there
    ]
    assert missing == []
    assert sum(returned.values()) > 400


WSGI = """
configure(flush_interval=0.05)
def app(environ, start_response):
    spans(1, environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.mark.parametrize("worker", ["sync", "gevent"])
def test_gunicorn_with_preload_and_workers_that_come_and_go(
    worker: str, inbox: Inbox, tmp_path: Path
) -> None:
    (tmp_path / "webapp.py").write_text(PRELUDE + WSGI)
    socket = tmp_path / "socket"
    command = [sys.executable, "-m", "gunicorn", "webapp:app", "--preload", "--workers", "4"]
    command += ["--max-requests", "15", "--bind", f"unix:{socket}", "--worker-class", worker]
    command += [
        "--chdir",
        str(tmp_path),
        "--log-level",
        "warning",
        "--graceful-timeout",
        "20",
        "--no-control-socket",
    ]
    with subprocess.Popen(command, env=environment(inbox), stderr=subprocess.PIPE, text=True) as server:
        try:
            sent = {f"/{number}": _get(socket, f"/{number}") for number in range(150)}
        finally:
            server.terminate()
            _, errors = server.communicate(timeout=60)
    assert server.returncode == 0, errors
    assert all(sent.values()), errors
    arrivals = arrived(inbox)
    # A worker that is replaced may serve a request and not answer it.
    assert {url: min(sent[url], count) for url, count in arrivals.items()} == arrivals
    assert arrivals.keys() == sent.keys()


def _get(path: Path, url: str) -> int:
    """Send a GET on a socket until there is an answer. Return the number of requests; 0 without an answer."""
    import http.client
    import socket

    requests = 0
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(10)
        try:
            connection.sock.connect(str(path))
            connection.request("GET", url)
            requests += 1
            return requests if connection.getresponse().read() == b"ok" else 0
        except OSError:
            time.sleep(0.05)
        finally:
            connection.close()
    return 0


CELERY = """
import celery
app = celery.Celery("tasks", broker="filesystem://")
folder = os.environ["FOLDER"]
app.conf.broker_transport_options = {
    "data_folder_in": folder, "data_folder_out": folder, "control_folder": folder + "/control",
}
app.conf.worker_max_tasks_per_child = 5
configure(flush_interval=0.05)

@app.task
def task(number):
    spans(1, f"task {number}")
    open(f"{folder}/done-{number}", "w").close()
"""


def test_celery_with_prefork_workers_that_come_and_go(inbox: Inbox, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(PRELUDE + CELERY)
    folder = tmp_path / "queue"
    (folder / "control").mkdir(parents=True)
    environ = environment(inbox) | {"FOLDER": str(folder), "C_FORCE_ROOT": "1"}
    environ["PYTHONPATH"] += f":{tmp_path}"
    send = "import tasks\nfor number in range(30): tasks.task.delay(number)"
    subprocess.run([sys.executable, "-c", send], env=environ, check=True, cwd=tmp_path, timeout=60)
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "tasks",
        "worker",
        "--pool",
        "prefork",
        "--concurrency",
        "2",
    ]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "warning"]
    with subprocess.Popen(
        command, env=environ, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as worker:
        over = threading.Event()
        for _ in range(600):
            if len([*folder.glob("done-*")]) == 30 or worker.poll() is not None:
                break
            over.wait(0.1)
        worker.terminate()
        _, errors = worker.communicate(timeout=60)
    assert len([*folder.glob("done-*")]) == 30, errors
    assert arrived(inbox) == {f"task {number}": 1 for number in range(30)}


@pytest.mark.parametrize(
    "patched",
    [
        "from gevent import monkey; monkey.patch_all()\n{prelude}\nhandle = configure(flush_interval=60)",
        "{prelude}\nfrom gevent import monkey; monkey.patch_all()\nhandle = configure(flush_interval=60)",
        "{prelude}\nhandle = configure(flush_interval=60)\nfrom gevent import monkey; monkey.patch_all()",
        "{prelude}\nfrom gevent import monkey; monkey.patch_all()\nhandle = configure(mask=lambda *a: a[0])",
    ],
    ids=["before us", "before our configure", "after our configure", "before our configure, with a mask"],
)
def test_an_interpreter_that_gevent_patched(patched: str, inbox: Inbox) -> None:
    code = (
        QUIET
        + "warnings.simplefilter('ignore')\n"
        + patched.format(prelude=PRELUDE)
        + """
import gevent
gevent.joinall([gevent.spawn(spans, 20, f"greenlet {at}") for at in range(5)])
for _ in range(20):  # in a greenlet our thread, which waits for a minute now, would stop all others
    gevent.sleep(0.01)
pid = os.fork()
if not pid:
    spans(20, "child")
    handle.force_flush(20_000)
    os._exit(0)
os.waitpid(pid, 0)
"""
    )
    subprocess.run([sys.executable, "-c", code], env=environment(inbox), check=True, timeout=50)
    assert arrived(inbox) == {**{f"greenlet {at}": 20 for at in range(5)}, "child": 20}


def test_a_child_has_the_fetched_prices_of_its_parent_and_a_thread_of_its_own(run: Run) -> None:
    code = """
from genai_prices.data_snapshot import get_snapshot
from otel_posthog.forwarder import price_updates
fetched = threading.Event()
fetch = price_updates.fetch
def fetch_and_signal(url):
    fetch(url)
    fetched.set()
price_updates.fetch = fetch_and_signal
configure()
assert fetched.wait(20)
parent = price_updates._follower
pid = os.fork()
if not pid:
    same = get_snapshot().from_auto_update and price_updates._follower == os.getpid() != parent
    os._exit(0 if same else 3)
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 0
"""
    with price_server() as (url, requests):
        run(QUIET + code, price_updates=url)
        assert len(requests) == 1
