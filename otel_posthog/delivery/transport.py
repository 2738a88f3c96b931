"""HTTP to PostHog: the one place that talks to the network.

`requests` takes a hundred milliseconds to import, so it is imported with the first transport that is
made: not by `import otel_posthog`, and not in a worker thread, whose import a fork could cut in half.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from opentelemetry import context

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


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep requests from looking into ~/.netrc, at every request, for a password PostHog does not want."""
    return request


class RequestsTransport:
    """Keep-alive connections by requests, with its reading of proxy variables and certificate bundles."""

    def __init__(self) -> None:
        self._session = _session()
        self._settings: dict[str, Mapping[str, Any]] = {}

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> Response:
        """Send a POST; see `Transport`. Its own traffic is never traced by OpenTelemetry."""
        import requests
        import urllib3

        deadline = time.monotonic() + timeout
        token = context.attach(context.set_value(context._SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            with self._session.send(
                requests.Request("POST", url, headers=dict(headers), data=body, auth=_no_auth).prepare(),
                # `total` covers connecting and the wait for the answer; requests hands it on, its stubs say
                # no.
                timeout=cast("Any", urllib3.Timeout(total=timeout)),
                allow_redirects=False,
                **self._surroundings(url),
            ) as answer:
                content = _read(answer, deadline)
                names = {name.lower(): value for name, value in answer.headers.items()}
                return Response(answer.status_code, names, content)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise TransportError(type(error).__name__) from None
        finally:
            context.detach(token)

    def _surroundings(self, url: str) -> Mapping[str, Any]:
        """Proxies and certificates that the environment asks for; read once: it takes half a millisecond."""
        found = self._settings.get(url)
        if found is None:
            found = self._session.merge_environment_settings(url, {}, True, None, None)
            self._settings[url] = found
        return found

    def close(self) -> None:
        """Close idle connections."""
        self._session.close()

    def reset_after_fork(self) -> None:
        """Start with new connections; the parent's are left alone, their locks may be held for ever."""
        self._session = _session()


def _session() -> requests.Session:
    import requests

    return requests.Session()


def _read(answer: requests.Response, deadline: float) -> bytes:
    """Return the body as far as it is worth reading; read to its end, the connection can be used again."""
    content = b""
    for part in answer.iter_content(8192):
        content += part
        if len(content) >= MAX_RESPONSE_BYTES or time.monotonic() > deadline:
            break
    return content[:MAX_RESPONSE_BYTES]
