"""OpenAI calls as spans, instrumented at `OpenAI.request` and `AsyncOpenAI.request`.

Every request of the SDK goes through these two. Inside of them a neighbour's span that is open for the same
call is completed with what it lacks (`neighbours`); where there is none, a span of our own is opened.

Our own span is the default also where opentelemetry-instrumentation-openai (Traceloop) is installed, as it is
with the extra `openai`: it has no span for images, audio, failed responses and moderations, leaves
cancelled calls open, and costs several times as much per call and most per streamed chunk (measured by
`benchmarks/instrument.py`). Whoever switches it on keeps it, and gets one span a call all the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import copy
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from instrumentors.common import traceloop
from instrumentors.common.call_span import (
    Attributes,
    Call,
    captures_content,
    logger,
    read,
    send,
    send_async,
    suppressed,
    warn_once,
)
from instrumentors.common.coexistence import covers, is_adopted, scope, without_neighbour
from instrumentors.common.http_streams import closes_with, reads_with
from instrumentors.common.patching import Patches, check_version
from instrumentors.common.streams import StreamAccumulator, StreamObserver, follow, follow_async
from instrumentors.openai import endpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from opentelemetry.trace import Tracer

    Send = Callable[..., Any]

_SCOPE = "otel_posthog.openai"
_RAW = "x-stainless-raw-response"
_KEPT_BYTES = 32 << 20
"""How much of a body that the user reads himself is kept for reading it, too."""
_AZURE = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")


class OpenAIInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Spans for calls through the `openai` package, synchronous and asynchronous, streamed or not.

    `instrument(tracer_provider=None, capture_content=None)`; `capture_content=None` follows
    ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT``.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Name the versions that are known to work."""
        return ("openai >= 2, < 4",)

    def instrument(self, **kwargs: Any) -> Any:
        """Instrument; raises ModuleNotFoundError where `openai` is not installed."""
        # Our own check says once what is unusual and goes on; the base class would silently do nothing.
        kwargs.pop("skip_dep_check", None)
        return super().instrument(skip_dep_check=True, **kwargs)

    def _instrument(self, **kwargs: Any) -> None:
        import openai

        check_version("openai", lowest=(2, 0), below=(4, 0))
        tracer = trace.get_tracer(_SCOPE, tracer_provider=kwargs.get("tracer_provider"))
        sender = _Sender(openai, tracer, content=captures_content(kwargs.get("capture_content")))
        self._patches = patches = Patches()
        traceloop.silence(traceloop.RESPONSES, patches)
        for client, request in (
            (openai.OpenAI, sender.request),
            (openai.AsyncOpenAI, sender.request_async),
        ):
            if hasattr(client, "request"):
                sender.alone |= covers(patches.wrap(client, "request", request))
            else:
                logger.warning("openai has no %s.request any more: such calls give no span", client.__name__)
            if hasattr(client, "_sleep_for_retry"):
                patches.wrap(client, "_sleep_for_retry", _note_retry)

    def _uninstrument(self, **_: Any) -> None:
        self._patches.undo()


def _note_retry(wrapped: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Count the attempts of the call whose span is current, before the SDK waits and tries again.

    Of what is no call to a model, the user's own span is current.
    """
    taken, span = kwargs.get("retries_taken"), trace.get_current_span()
    if isinstance(taken, int) and (scope(span) == _SCOPE or is_adopted(span)):
        span.set_attribute("posthog.retry.count", taken + 1)
    return wrapped(*args, **kwargs)


class _Sender:
    """Stands at the SDK's one place of sending."""

    def __init__(self, openai: Any, tracer: Tracer, *, content: bool) -> None:
        self.tracer, self.content = tracer, content
        self.stream_kinds: dict[Any, Callable[..., Any]] = {
            openai.Stream: follow,
            openai.AsyncStream: follow_async,
        }
        self.streams = tuple(self.stream_kinds)
        self.refusals = (openai.BadRequestError, openai.UnprocessableEntityError)
        self.alone = False
        """Whether a neighbour inside of us has to be silenced."""
        self.refusing: set[str] = set()
        """Servers that do not know `stream_options`."""

    def request(self, wrapped: Send, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        attempt = self._attempt(client, args, kwargs)
        return wrapped(*args, **kwargs) if attempt is None else send(wrapped, attempt)

    async def request_async(
        self, wrapped: Send, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        attempt = self._attempt(client, args, kwargs)
        return await (wrapped(*args, **kwargs) if attempt is None else send_async(wrapped, attempt))

    def _attempt(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Attempt | None:
        try:
            options = args[1] if len(args) > 1 else kwargs["options"]
            endpoint = endpoints.ENDPOINTS.get(options.url) if options.method.lower() == "post" else None
            if endpoint is None or suppressed() or _reported_by_posthog(client, options.url):
                return None
            body = _sent(options)
            facts = read(endpoints.request_facts, endpoint, body, options.files, self.content)
            if not facts:
                facts = {"gen_ai.operation.name": endpoint.operation}
            facts.update(_server(str(client.base_url), "Azure" in type(client).__name__))
            call = Call.open(self.tracer, facts, content=self.content)
            call.alone = self.alone
            try:
                return _Attempt(self, endpoint, call, body, client=client, args=args, kwargs=kwargs)
            except Exception:
                call.finish({})
                raise
        except Exception as error:  # noqa: BLE001 - the user's call goes on without a span
            logger.debug("otel-posthog could not follow a call: %s", type(error).__name__)
            return None


class _Attempt:
    """One request; what is sent differs from what was given in ``include_usage`` at most."""

    def __init__(
        self,
        sender: _Sender,
        endpoint: endpoints.Endpoint,
        call: Call,
        body: Mapping[str, Any],
        *,
        client: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.call, self.args, self.kwargs = call, args, kwargs
        self._sender, self._endpoint, self._client = sender, endpoint, client
        if (stream_class := kwargs.get("stream_cls")) is not None:
            self.kwargs = {**kwargs, "stream_cls": without_neighbour(stream_class)}
        self._options = args[1] if len(args) > 1 else kwargs["options"]
        if callable(self._options.post_parser):
            self._note_before_parsing()
        self._streamed = bool(body.get("stream"))
        self._refused = False
        self._hides_usage = (
            self._streamed
            and call.recording
            and endpoint.gather is endpoints.ChatAccumulator
            and str(client.base_url) not in sender.refusing
            and self._gives_chunks()
            and self._ask_for_usage(body)
        )

    def _note_before_parsing(self) -> None:
        # `parse` can fail on an answer that came, and was billed: what it told is noted first.
        parser = self._options.post_parser

        def parse(raw: Any) -> Any:
            self.call.fill(self._facts(raw)[0])
            return parser(raw)

        self._options = options = copy(self._options)
        options.post_parser = parse
        self._replace(options)

    def _gives_chunks(self) -> bool:
        """Say whether the user gets chunks: of a body that he reads himself nothing can be hidden."""
        if not self.kwargs.get("stream"):
            return False
        cast_to = self.args[0] if self.args else self.kwargs.get("cast_to")
        headers = {
            name.lower(): value
            for given in (self._client.default_headers, self._options.headers)
            for name, value in (given.items() if hasattr(given, "items") else ())
        }
        raw = headers.get(_RAW)
        return not (isinstance(raw, str) and raw) and not hasattr(cast_to, "iter_raw")

    def _ask_for_usage(self, body: Mapping[str, Any]) -> bool:
        given = body.get("stream_options") or {}
        if not isinstance(given, dict) or "include_usage" in given:
            return False
        # What the user has put into the body himself is told apart by what only we have said.
        self._ours = "include_usage" if given else "stream_options"
        options = copy(self._options)
        field = "json_data" if options.extra_json is None else "extra_json"
        asked = {**given, "include_usage": True}
        setattr(options, field, {**(getattr(options, field) or {}), "stream_options": asked})
        self._replace(options)
        return True

    def _replace(self, options: Any) -> None:
        if len(self.args) > 1:
            self.args = (self.args[0], options, *self.args[2:])
        else:
            self.kwargs = {**self.kwargs, "options": options}

    def again(self, error: Exception) -> bool:
        """Send as the user wrote it where a server does not know the option that we added."""
        if not (self._hides_usage and isinstance(error, self._sender.refusals) and self._ours in str(error)):
            return False
        self._hides_usage, self._refused = False, True
        self._replace(self._options)
        return True

    def answered(self, result: Any) -> Any:
        """End the call with its response, or follow its stream."""
        if self._refused:
            self._sender.refusing.add(str(self._client.base_url))
        try:
            return self._follow(result)
        except Exception as error:  # noqa: BLE001 - the result is the user's, whatever we make of it
            logger.debug("otel-posthog could not read a result: %s", type(error).__name__)
            self.call.finish({})
            return result

    def _follow(self, result: Any) -> Any:
        if not self.call.recording:
            self.call.finish({})
        elif isinstance(result, self._sender.streams):
            self._follow_stream(result)
        elif (http := _http(result)) is not None:
            self._follow_body(http)
        elif isinstance(result, str):
            self.call.finish(*self._read(result.encode(errors="replace"), complete=True))
        else:
            self.call.finish(*self._facts(result))
        return result

    def _facts(self, response: Any) -> tuple[Attributes, str]:
        facts = read(self._endpoint.response, response, self.call.content)
        if request_id := getattr(response, "_request_id", None):
            facts["posthog.request.id"] = request_id
        return facts, str(facts.pop("error.message", ""))

    def _gather(self) -> StreamAccumulator:
        gather = self._endpoint.gather
        if gather is endpoints.ChatAccumulator:
            return endpoints.ChatAccumulator(hide_usage=self._hides_usage)
        return (gather or endpoints.Nothing)()

    def _follow_stream(self, stream: Any) -> None:
        watch = StreamObserver(self._gather(), call=self.call)
        following = next(
            following for kind, following in self._sender.stream_kinds.items() if isinstance(stream, kind)
        )
        self._note_response(stream.response)
        closes_with(stream.response, watch)
        # The stream stays the SDK's own; what it iterates over is ours.
        stream._iterator = following(stream._iterator, watch)

    def _note_response(self, response: Any) -> None:
        if request_id := response.headers.get("x-request-id"):
            self.call.fill({"posthog.request.id": request_id})

    def _follow_body(self, http: Any) -> None:
        """Read a body that is here already; else wait for the user to read it, or to have it parsed."""
        self._note_response(http)
        if hasattr(http, "_content"):
            self.call.finish(*self._read(http.content, complete=True))
        else:
            reads_with(http, StreamObserver(_Body(self, http), call=self.call, timed=self._streamed))

    def _read(self, body: bytes, *, complete: bool) -> tuple[Attributes, str]:
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict) and self._streamed:
            facts = read(self._events, body, complete)
            return facts, str(facts.pop("error.message", ""))
        if not isinstance(found, dict):
            if not complete:
                return {}, ""
            # A transcription in plain text.
            found = body.decode(errors="replace") if self._endpoint.operation != "speech" else None
        return self._facts(found)

    def _events(self, body: bytes, complete: bool) -> Attributes:
        return endpoints.events_facts(body, self._gather(), self.call.content, complete=complete)


class _Body:
    """What a body adds up to that the user reads himself, as far as he has read it."""

    def __init__(self, attempt: _Attempt, http: Any) -> None:
        self._attempt = attempt
        self._pieces: list[bytes] = []
        self._room = _KEPT_BYTES if attempt._endpoint.operation != "speech" else 0
        encoding = http.headers.get("content-encoding")
        kind: Any = type(http)
        self._decoded = partial(kind, 200, headers={"content-encoding": encoding}) if encoding else None

    def add(self, piece: bytes) -> bool:
        """Take a piece."""
        self._room -= len(piece)
        if self._room >= 0:
            self._pieces.append(piece)
        else:
            self._pieces.clear()
        return True

    def facts(self, _content: bool, complete: bool, /) -> Attributes:
        """Give what the pieces say."""
        body = b"".join(self._pieces)
        self._pieces.clear()
        if body and self._decoded is not None:
            body = self._decoded(content=body).content
        facts, message = self._attempt._read(body, complete=complete)
        return facts | ({"error.message": message} if message else {})


def _sent(options: Any) -> Mapping[str, Any]:
    """The JSON that will be sent: the SDK's, and the user's own `extra_body` above it."""
    body = options.json_data if isinstance(options.json_data, dict) else {}
    if options.extra_json is None:
        return body
    return {name: value for name, value in {**body, **options.extra_json}.items() if not _omitted(value)}


def _omitted(value: Any) -> bool:
    return type(value).__name__ == "Omit"


def _http(result: Any) -> Any:
    """The HTTP response whose body is the user's to read, if the result is, or holds, one."""
    fields = getattr(result, "__dict__", {})
    return result if "is_stream_consumed" in fields else fields.get("http_response")


_POSTHOG_REPORTS = frozenset({"/chat/completions", "/responses", "/embeddings"})


def _reported_by_posthog(client: Any, path: str) -> bool:
    """Whether PostHog's own wrapper (`posthog.ai.openai`) sends an event for this call: one is enough."""
    if path not in _POSTHOG_REPORTS or not type(client).__module__.startswith("posthog.ai."):
        return False
    warn_once(
        "%s reports its calls itself, so they get no span; use the client of openai to have spans",
        type(client).__module__,
    )
    return True


@lru_cache(maxsize=64)
def _server(base_url: str, azure: bool) -> Mapping[str, Any]:
    address = urlsplit(base_url)
    host = address.hostname or ""
    provider = "azure.ai.openai" if azure or host.endswith(_AZURE) else "openai"
    port = address.port or (443 if address.scheme == "https" else 80)
    return {"gen_ai.provider.name": provider, "server.address": host, "server.port": port}
