"""The inbox: a store, a server in front of it, and a line of text for each event that arrives.

Closed, it leaves no thread, no open connection, and no file but the one it was given.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from otel_posthog.local.console import line, plain
from otel_posthog.local.server import Server
from otel_posthog.local.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Self

    from otel_posthog.local import capture_wire


class Inbox:
    """The capture side of PostHog on this machine.

    `port=0` takes a free port. `db` is the file for the events; without it they are in a temporary file that
    `close` removes. `echo` gets a line for each new event and each refused request, on the thread of the
    request; `color` adds the colours of a terminal.

        with Inbox() as inbox:
            posthog = Posthog("phc_x", host=inbox.url)
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        db: str | Path | None = None,
        echo: Callable[[str], object] | None = None,
        *,
        color: bool = False,
    ) -> None:
        self._echo, self._color = echo, color
        self._echo_lock = threading.Lock()
        self._refused = 0
        self._closed = False
        # The port first: if it is taken, no file is made.
        self._server = Server(self, host, port)
        self._scratch = None if db is not None else Path(tempfile.mkdtemp(prefix="otel-posthog-inbox-"))
        try:
            self._store = Store(Path(db) if db is not None else cast("Path", self._scratch) / "events.db")
        except BaseException:
            self._server.server_close()
            self._sweep()
            raise
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="otel-posthog-inbox"
        )
        # A program that never calls close() still ends.
        self._thread.daemon = True
        self._thread.start()

    @property
    def url(self) -> str:
        """The address of the inbox, without a slash at the end."""
        host, port = self._server.server_address[:2]
        name = str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def events(self, event: str | None = None, *, after: int = 0) -> list[dict[str, Any]]:
        """Return the events in order of arrival, all or those called `event`.

        Each has an `_inbox` with its `id`, `path`, `received_at` and `copies` (how often it arrived).
        """
        return list(self.stream(event, after=after))

    def stream(self, event: str | None = None, *, after: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the same events one by one; they are never all in memory."""
        return self._store.read(event=event, after=after)

    def counts(self) -> dict[str, int]:
        """Return the numbers of `events` kept, `duplicates` not kept again, and requests `refused` so far."""
        return {**self._store.counts(), "refused": self._refused}

    def close(self) -> None:
        """Stop serving, end the connections, close the file; remove it if it is a temporary one."""
        if self._closed:
            return
        self._closed = True
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._store.close()
        self._sweep()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _sweep(self) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def keep(self, path: str, accepted: capture_wire.Accepted) -> None:
        """Store the events of a request, all or none, and print the new ones. For the server's threads."""
        now = datetime.now(timezone.utc).isoformat()
        for event in self._store.add(accepted.events, path=path, received_at=now):
            # A sender may leave the timestamp out; PostHog then takes the time of arrival.
            self._print(line({"timestamp": now, **event}, color=self._color))

    def refuse(self, path: str, refusal: capture_wire.RefusalError) -> None:
        """Count a refused request and print why. For the server's threads."""
        with self._echo_lock:
            self._refused += 1
        self._print(f"refused with {refusal.status}: {plain(path)[:60]}: {plain(refusal)}")

    def _print(self, text: str) -> None:
        if self._echo is None:
            return
        # A closed pipe or terminal is no reason to refuse an event.
        with self._echo_lock, contextlib.suppress(OSError, ValueError):
            self._echo(text)
