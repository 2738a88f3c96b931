"""HTTP to PostHog: the one place that talks to the network.

`requests` takes a hundred milliseconds to import, so it is imported with the first transport that is
made: not by `import otel_posthog`, and not in a worker thread, whose import a fork could cut in half.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from opentelemetry import context

from otel_posthog.delivery.http.read_deadline import time_answers

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

# Bytes of an answer that are read; PostHog's are a line, a proxy's error page is not our business.
MAX_RESPONSE_BYTES = 64 * 1024


class TransportError(Exception):
    """No answer came; the message is the kind of failure, without addresses or content."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: its status, headers by lower-case name, and the first bytes of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """What a delivery needs of HTTP; safe to call from several threads."""

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Response:
        """Send a POST and return the answer whatever its status; `TransportError` if there is none.

        `timeout` is in seconds. No redirect is followed.
        """
        ...

    def close(self) -> None:
        """Close idle connections; a later `post` opens new ones."""
        ...

    def reset_after_fork(self) -> None:
        """Forget the parent's connections, in a forked child."""
        ...


KEPT = 128
"""Idle connections to a host: as many as a gateway may use at once. Beyond it each request opens its own."""


class _Route(NamedTuple):
    """The connections to a host, and what to ask there: a path, or a whole address by a proxy."""

    pool: Any
    target: str


class RequestsTransport:
    """Keep-alive connections as requests makes them, with its reading of proxy variables and certificates.

    `requests` finds the connection pool, once an address; the requests themselves go straight to urllib3,
    which underlies it. What requests does beside that for every one costs as much as compressing its body.
    """

    def __init__(self) -> None:
        self._session = _session()
        self._routes: dict[str, _Route] = {}

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Response:
        """Send a POST; see `Transport`. Its own traffic is never traced by OpenTelemetry."""
        import requests
        import urllib3

        deadline = time.monotonic() + timeout
        token = context.attach(context.set_value(context._SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            route = self._routes.get(url) or self._find(url)
            answer = route.pool.urlopen(
                "POST",
                route.target,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(total=timeout),  # connecting, and the wait for the answer
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

    def _find(self, url: str) -> _Route:
        import requests

        session = self._session
        around = session.merge_environment_settings(url, {}, None, None, None)
        # `auth` keeps requests from looking into ~/.netrc for a password PostHog does not want.
        request = requests.Request("POST", url, auth=lambda prepared: prepared).prepare()
        adapter: Any = session.get_adapter(url)
        pool = adapter.get_connection_with_tls_context(
            request, around["verify"], proxies=around["proxies"], cert=around["cert"]
        )
        adapter.cert_verify(pool, url, around["verify"], around["cert"])
        time_answers(pool)
        route = _Route(pool, adapter.request_url(request, around["proxies"]))
        self._routes[url] = route
        return route

    def close(self) -> None:
        """Close idle connections."""
        self._routes = {}
        self._session.close()

    def reset_after_fork(self) -> None:
        """Start with new connections; the parent's are left alone, their locks may be held for ever."""
        self._session = _session()
        self._routes = {}


def _session() -> requests.Session:
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=KEPT))
    return session


def _read(answer: Any, deadline: float) -> bytes:
    """Return the body as far as it is worth reading; read to its end, the connection can be used again."""
    content = b""
    for part in answer.stream(8192, decode_content=True):
        content += part
        if len(content) >= MAX_RESPONSE_BYTES or time.monotonic() > deadline:
            answer.close()
            break
    else:
        answer.release_conn()
    return content[:MAX_RESPONSE_BYTES]
