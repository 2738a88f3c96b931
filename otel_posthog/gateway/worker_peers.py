"""The metrics of all workers in one scrape: the worker that is scraped fetches those of the others.

Workers share a port, so a scrape reaches any one of them. Each listens on a UNIX socket in a directory that
their parent created, and holds a number there while it lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

__all__ = ["WorkerPeers", "merged"]

SECONDS = 2.0
"""For all others to answer; a worker that does not is left out."""
_MAX_WORKERS = 1024

_log = logging.getLogger("otel_posthog.gateway")


class WorkerPeers:
    """The metrics of the other workers of a gateway, and our answer to theirs."""

    def __init__(self, directory: Path, text: Callable[[], str]) -> None:
        """Claim the lowest free number, and answer every connection with `text()`.

        Raises:
            OSError: the directory cannot be used.
        """
        self._directory = directory
        self._text = text
        self.number, self._lock = _free_number(directory)
        path = self._path(self.number)
        path.unlink(missing_ok=True)  # left by a worker that was killed
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listening.bind(str(path))
        self._listening.listen()
        threading.Thread(target=self._answer, name="otel-posthog-metrics", daemon=True).start()

    def _path(self, number: int) -> Path:
        return self._directory / f"{number}.socket"

    def _answer(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:  # closed
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(SECONDS)
                connection.sendall(self._text().encode())

    def others(self) -> dict[str, str]:
        """Return the metrics of the other workers by their numbers."""
        deadline = time.monotonic() + SECONDS
        connections: dict[str, socket.socket] = {}
        texts: dict[str, str] = {}
        with contextlib.ExitStack() as stack:
            for path in sorted(self._directory.glob("*.socket")):
                if path.stem != str(self.number):
                    connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                    connection.settimeout(SECONDS)
                    with contextlib.suppress(OSError):  # that worker has died
                        connection.connect(str(path))
                        connections[path.stem] = connection
            for number, connection in connections.items():
                try:
                    texts[number] = _read_all(connection, deadline)
                except OSError as error:  # noqa: PERF203  # a handful
                    _log.warning(
                        "/metrics lacks worker %s: no answer in time (%s)", number, type(error).__name__
                    )
        return texts

    def close(self) -> None:
        """Stop answering, and release the number."""
        self._path(self.number).unlink(missing_ok=True)
        self._listening.close()
        os.close(self._lock)


def _free_number(directory: Path) -> tuple[int, int]:
    """Return the lowest number that no living process holds, and the open lock file that claims it."""
    for number in range(_MAX_WORKERS):
        file = os.open(directory / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
        else:
            return number, file
    raise OSError("there are too many workers")


def _read_all(connection: socket.socket, deadline: float) -> str:
    pieces: list[bytes] = []
    while True:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        piece = connection.recv(1 << 16)
        if not piece:
            return b"".join(pieces).decode()
        pieces.append(piece)


_SERIES = re.compile(r"(\S+?)(?:\{(.*)\})? (\S+(?: \d+)?)")
"""A series: name, labels, value and perhaps time."""


def merged(texts: Mapping[str, str], unlabelled: Iterable[str] = ()) -> str:
    """Return one text from those of several workers, with a label for the worker in each series.

    A family whose name begins with one of `unlabelled` is the same in all workers and gets no label.
    """
    families: dict[str, list[str]] = {}
    prefixes = tuple(unlabelled)
    for worker, text in texts.items():
        lines: list[str] = []
        label = ""
        for line in text.splitlines():
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                lines = families.setdefault(name, [])
                label = "" if name.startswith(prefixes) else f'worker="{worker}"'
            if line.startswith("#"):
                if line not in lines:
                    lines.append(line)
            elif label and (series := _SERIES.fullmatch(line)):
                labels = label if not series[2] else f"{label},{series[2]}"
                lines.append(f"{series[1]}{{{labels}}} {series[3]}")
            else:
                lines.append(line)
    return "".join(f"{line}\n" for lines in families.values() for line in lines)
