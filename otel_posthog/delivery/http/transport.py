"""HTTP to PostHog: the only module that uses the network to deliver events.

`requests` takes a hundred milliseconds to import, so the first transport imports it when it is created:
`import otel_posthog` does not, and neither does a worker thread, whose import a fork could interrupt.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from opentelemetry import context

from otel_posthog.delivery.http.read_deadline import limit_answers

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

MAX_RESPONSE_BYTES = 64 * 1024
"""Bytes of an answer that are read. PostHog's answers are one line; a proxy's error page is not needed."""


class TransportError(Exception):
    """There was no answer. The text is the kind of failure, without addresses or content."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: its status, headers by lower-case name, and the first bytes of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """The HTTP that delivery needs. Safe to call from several threads."""

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Response:
        """Send a POST and return the answer, whatever its status. No redirect is followed.

        `timeout` is in seconds.

        Raises:
            TransportError: there was no answer.
        """
        ...

    def close(self) -> None:
        """Close idle connections; a later `post` opens new ones."""
        ...

    def reset_after_fork(self) -> None:
        """Forget the parent's connections. Called in a forked child."""
        ...


KEPT = 128
"""Idle connections per host, as many as a gateway may use at once. Beyond that each request opens its own."""


class _Connections(NamedTuple):
    """The connections for one address, and the target of requests: a path, or with a proxy the address."""

    pool: Any
    target: str


class RequestsTransport:
    """Keep-alive connections made by `requests`, which also reads proxy variables and certificates.

    `requests` finds the connection pool, once per address. Each POST goes straight to urllib3, on which
    `requests` is built: its work around every single one costs as much as compressing the body.
    """

    def __init__(self) -> None:
        self._session = _session()
        self._connections: dict[str, _Connections] = {}

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Response:
        """Send a POST; see `Transport`. OpenTelemetry never traces it."""
        import requests
        import urllib3

        deadline = time.monotonic() + timeout
        token = context.attach(context.set_value(context._SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            connections = self._connections.get(url) or self._connect(url)
            answer = connections.pool.urlopen(
                "POST",
                connections.target,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(total=timeout),  # of connecting and of waiting for the answer
                retries=False,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
            )
            content = _read(answer, deadline)
            names = {name.lower(): value for name, value in answer.headers.items()}
            return Response(answer.status, names, content)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise TransportError(type(error).__name__) from None
        finally:
            context.detach(token)

    def _connect(self, url: str) -> _Connections:
        import requests

        session = self._session
        settings = session.merge_environment_settings(url, {}, None, None, None)
        # `auth` keeps requests from sending PostHog a password out of ~/.netrc.
        request = requests.Request("POST", url, auth=lambda prepared: prepared).prepare()
        adapter: Any = session.get_adapter(url)
        pool = adapter.get_connection_with_tls_context(
            request, settings["verify"], proxies=settings["proxies"], cert=settings["cert"]
        )
        adapter.cert_verify(pool, url, settings["verify"], settings["cert"])
        limit_answers(pool)
        connections = _Connections(pool, adapter.request_url(request, settings["proxies"]))
        self._connections[url] = connections
        return connections

    def close(self) -> None:
        """Close idle connections."""
        self._connections = {}
        self._session.close()

    def reset_after_fork(self) -> None:
        """Start with new connections. The parent's are left alone: their locks may be held for ever."""
        self._session = _session()
        self._connections = {}


def _session() -> requests.Session:
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=KEPT))
    return session


def _read(answer: Any, deadline: float) -> bytes:
    """Return the first bytes of the body. A connection is reused if its answer was read to the end."""
    content = b""
    for part in answer.stream(8192, decode_content=True):
        content += part
        if len(content) >= MAX_RESPONSE_BYTES or time.monotonic() > deadline:
            answer.close()
            break
    else:
        answer.release_conn()
    return content[:MAX_RESPONSE_BYTES]
