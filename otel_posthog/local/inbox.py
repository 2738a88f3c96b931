"""The inbox as one thing to open and close: a store, a server in front of it, a line for what arrives.

It leaves nothing behind: no thread, no open connection, and no file unless it was given one.
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
    """A PostHog on this machine, as far as capture goes.

    ``port=0`` takes a free one. ``db`` is the file for the events; without one they are in a temporary file
    that goes with the inbox. ``echo`` gets a line for each new event (and each refused request), from the
    thread of the request; ``color`` is for a terminal.

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
        # The port first: where it is taken, no file is made.
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
        # A program that forgets close() ends all the same.
        self._thread.daemon = True
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the inbox is, without a slash at the end."""
        host, port = self._server.server_address[:2]
        name = str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def events(self, event: str | None = None, *, after: int = 0) -> list[dict[str, Any]]:
        """Give the events in order of arrival, those of one name if asked.

        ``_inbox`` in each holds ``id``, ``path``, ``received_at`` and ``copies`` (how often it arrived).
        """
        return list(self.stream(event, after=after))

    def stream(self, event: str | None = None, *, after: int = 0) -> Iterator[dict[str, Any]]:
        """Give the same one by one, however many there are."""
        return self._store.read(event=event, after=after)

    def counts(self) -> dict[str, int]:
        """Count ``events`` kept, ``duplicates`` not kept again, ``refused`` requests of this run."""
        return {**self._store.counts(), "refused": self._refused}

    def close(self) -> None:
        """Stop serving, end the connections, close the file; a temporary one is removed."""
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

    def take(self, path: str, accepted: capture_wire.Accepted) -> None:
        """Keep what a request brought, all or none, and say what is new. For the server's threads."""
        now = datetime.now(timezone.utc).isoformat()
        for event in self._store.add(accepted.events, path=path, received_at=now):
            # A sender may leave the timestamp out; PostHog then takes the time of arrival.
            self._say(line({"timestamp": now, **event}, color=self._color))

    def refuse(self, path: str, refusal: capture_wire.RefusalError) -> None:
        """Count a request that was refused, and say why. For the server's threads."""
        with self._echo_lock:
            self._refused += 1
        self._say(f"refused with {refusal.status}: {plain(path)[:60]}: {plain(refusal)}")

    def _say(self, text: str) -> None:
        if self._echo is None:
            return
        # A closed pipe or terminal is no reason to refuse an event.
        with self._echo_lock, contextlib.suppress(OSError, ValueError):
            self._echo(text)
