"""One request of the SDK: what is read of it before it is sent, and of its response, however that is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import copy
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from instrumentors.common.attributes import REQUEST_ID
from instrumentors.common.call_span import (
    Attributes,
    CallSpan,
    is_suppressed,
    logger,
    read_safely,
    send_in_span,
    send_in_span_async,
    warn_once,
)
from instrumentors.common.coexistence import original_stream_class
from instrumentors.common.http_streams import observe_close, observe_reads
from instrumentors.common.streams import StreamAccumulator, StreamObserver, follow, follow_async
from instrumentors.openai.chat import ChatAccumulator, chat_response
from instrumentors.openai.endpoints import Endpoint, find_endpoint, normalize_path
from instrumentors.openai.failures import failure_attributes
from instrumentors.openai.fields import get, request_attributes
from instrumentors.openai.raw_stream import UsageHider, stream_attributes

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Tracer

    Send = Callable[..., Any]

_KEPT_BYTES = 32 << 20
"""The part of a body that we keep to read it, too, if the application reads the body itself."""
_TEXTS = frozenset({"transcription", "translation"})
"""The operations whose answer is plain text if the application asks for that."""
_AZURE = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")


class RequestWrappers:
    """The wrappers around the SDK's two methods that send requests."""

    def __init__(self, openai: Any, tracer: Tracer, *, content: bool) -> None:
        self.tracer, self.content = tracer, content
        self.stream_kinds: dict[Any, Callable[..., Any]] = {
            openai.Stream: follow,
            openai.AsyncStream: follow_async,
        }
        self.streams = tuple(self.stream_kinds)
        self.rejections = (openai.BadRequestError, openai.UnprocessableEntityError)
        self.suppress_others = False
        """Whether another instrumentor's wrapper is inside ours and must not open a span."""
        self.without_usage_option: set[str] = set()
        """Servers that do not know `stream_options`."""

    def request(self, wrapped: Send, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Wrap `OpenAI.request`."""
        request = self._open(client, args, kwargs)
        return wrapped(*args, **kwargs) if request is None else send_in_span(wrapped, request)

    async def request_async(
        self, wrapped: Send, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Wrap `AsyncOpenAI.request`."""
        request = self._open(client, args, kwargs)
        return await (wrapped(*args, **kwargs) if request is None else send_in_span_async(wrapped, request))

    def _open(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _OpenAIRequest | None:
        """Open the span of a request; None if it is no call to a model, or is to have no span."""
        try:
            options = args[1] if len(args) > 1 else kwargs["options"]
            endpoint = find_endpoint(options.url) if options.method.lower() == "post" else None
            if endpoint is None or is_suppressed() or _is_reported_by_posthog(client, options.url):
                return None
            body = _json_body(options)
            attributes = read_safely(request_attributes, body, options.files, self.content)
            attributes |= read_safely(endpoint.request, body, self.content)
            attributes["gen_ai.operation.name"] = endpoint.operation
            attributes.update(server_attributes(str(client.base_url), "Azure" in type(client).__name__))
            call = CallSpan.open(self.tracer, attributes, content=self.content)
            call.suppresses_others = self.suppress_others
            try:
                return _OpenAIRequest(self, endpoint, call, body, client=client, args=args, kwargs=kwargs)
            except Exception:
                call.end({})
                raise
        except Exception as error:  # noqa: BLE001 - the user's call goes on without a span
            logger.debug("otel-posthog could not follow a call: %s", type(error).__name__)
            return None


class _OpenAIRequest:
    """One request; it is sent as the application wrote it, at most with ``include_usage`` added."""

    def __init__(
        self,
        wrappers: RequestWrappers,
        endpoint: Endpoint,
        call: CallSpan,
        body: Mapping[str, Any],
        *,
        client: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.call, self.args, self.kwargs = call, args, kwargs
        self._wrappers, self._endpoint, self._client = wrappers, endpoint, client
        if (stream_class := kwargs.get("stream_cls")) is not None:
            self.kwargs = {**kwargs, "stream_cls": original_stream_class(stream_class)}
        self._options = args[1] if len(args) > 1 else kwargs["options"]
        if callable(self._options.post_parser):
            self._read_before_parsing()
        self._streamed = bool(body.get("stream"))
        audio_format = get(body.get("audio"), "format")
        self._audio_format = audio_format if isinstance(audio_format, str) else None
        count = body.get("n")
        self._choices = count if isinstance(count, int) else 1
        self._usage_rejected = False
        self._hides_usage = (
            self._streamed
            and call.recording
            and endpoint.accumulator is ChatAccumulator
            and str(client.base_url) not in wrappers.without_usage_option
            and self._returns_chunks()
            and self._add_usage_option(body)
        )

    def _read_before_parsing(self) -> None:
        # `parse` can fail on an answer that came, and was billed: its attributes are set first.
        parser = self._options.post_parser

        def parse(raw: Any) -> Any:
            attributes, message = self._response_attributes(raw)
            if "error.type" in attributes:  # the provider's error, not the SDK's about what it lacks
                self.call.end(attributes, message)
            self.call.set_attributes(attributes)
            return parser(raw)

        self._options = options = copy(self._options)
        options.post_parser = parse
        self._replace_options(options)

    def _returns_chunks(self) -> bool:
        """Whether the application gets chunks, or a raw response whose events we see on their way to it."""
        if not self.kwargs.get("stream"):
            return False
        cast_to = self.args[0] if self.args else self.kwargs.get("cast_to")
        return not hasattr(cast_to, "iter_raw")

    def _add_usage_option(self, body: Mapping[str, Any]) -> bool:
        given = body.get("stream_options") or {}
        if not isinstance(given, dict) or "include_usage" in given:
            return False
        # A rejection that names this word is of our addition, not of the application's own options.
        self._added = "include_usage" if given else "stream_options"
        options = copy(self._options)
        field = "json_data" if options.extra_json is None else "extra_json"
        extended = {**given, "include_usage": True}
        setattr(options, field, {**(getattr(options, field) or {}), "stream_options": extended})
        self._replace_options(options)
        return True

    def _replace_options(self, options: Any) -> None:
        if len(self.args) > 1:
            self.args = (self.args[0], options, *self.args[2:])
        else:
            self.kwargs = {**self.kwargs, "options": options}

    def should_retry(self, error: Exception) -> bool:
        """Whether the server does not know the option that we added; then the original request is sent."""
        rejected = isinstance(error, self._wrappers.rejections)
        if not (self._hides_usage and rejected and self._added in str(error)):
            return False
        self._hides_usage, self._usage_rejected = False, True
        self._replace_options(self._options)
        return True

    def handle_result(self, result: Any) -> Any:
        """End the call with its response, or follow its stream."""
        if self._usage_rejected:
            self._wrappers.without_usage_option.add(str(self._client.base_url))
        try:
            return self._follow(result)
        except Exception as error:  # noqa: BLE001 - the result is the user's, whatever we make of it
            logger.debug("otel-posthog could not read a result: %s", type(error).__name__)
            self.call.end({})
            return result

    def _follow(self, result: Any) -> Any:
        if not self.call.recording:
            self.call.end({})
        elif isinstance(result, self._wrappers.streams):
            self._follow_stream(result)
        elif (http_response := _http_response(result)) is not None:
            self._follow_body(http_response)
        elif isinstance(result, str):
            self.call.end(*self.body_attributes(result.encode(errors="replace"), complete=True))
        else:
            self.call.end(*self._response_attributes(result))
        return result

    def _response_attributes(self, response: Any) -> tuple[Attributes, str]:
        """Return the attributes of a response, and the message of its error."""
        reader: Callable[..., Attributes] = self._endpoint.response
        if reader is chat_response and self._audio_format is not None:
            reader = partial(chat_response, audio_format=self._audio_format)
        attributes = read_safely(reader, response, self.call.content)
        if "error.type" not in attributes:
            may_be_text = self._endpoint.operation in _TEXTS
            attributes |= read_safely(failure_attributes, response, self.call.content, may_be_text)
        if request_id := getattr(response, "_request_id", None):
            attributes[REQUEST_ID] = request_id
        return attributes, str(attributes.pop("error.message", ""))

    def _accumulator(self, *, hide_usage: bool = False) -> StreamAccumulator:
        accumulator = self._endpoint.accumulator
        if accumulator is ChatAccumulator:
            return ChatAccumulator(
                hide_usage=hide_usage, choices=self._choices, audio_format=self._audio_format
            )
        return (accumulator or _UnreadChunks)()

    def _follow_stream(self, stream: Any) -> None:
        accumulator, note = self._accumulator(hide_usage=self._hides_usage), None
        if "event-stream" not in str(stream.response.headers.get("content-type")):
            whole = _ChunksOrBody(accumulator, _BodyAccumulator(self, stream.response, _KEPT_BYTES))
            accumulator, note = whole, whole.body.add
        observer = StreamObserver(accumulator, call=self.call)
        follower = next(
            follower for kind, follower in self._wrappers.stream_kinds.items() if isinstance(stream, kind)
        )
        self._set_request_id(stream.response)
        observe_close(stream.response, observer, note)
        # The stream object stays the SDK's; only the iterator inside is ours.
        stream._iterator = follower(_without_cycle(stream), observer)

    def _set_request_id(self, http_response: Any) -> None:
        if request_id := http_response.headers.get("x-request-id"):
            self.call.set_attributes({REQUEST_ID: request_id})

    def _follow_body(self, http_response: Any) -> None:
        """Read a body that has been read; otherwise observe it until the application reads or parses it."""
        self._set_request_id(http_response)
        if hasattr(http_response, "_content"):
            self.call.end(*self.body_attributes(http_response.content, complete=True))
        else:
            kept = _KEPT_BYTES if self._endpoint.operation != "speech" else 0
            body = _BodyAccumulator(self, http_response, kept)
            hider = None
            if self._hides_usage and not http_response.headers.get("content-encoding"):
                hider = UsageHider()
            observer = StreamObserver(body, call=self.call, timed=self._streamed)
            observe_reads(http_response, observer, hider)

    def body_attributes(self, body: bytes, *, complete: bool) -> tuple[Attributes, str]:
        """Return the attributes of a body in bytes, and the message of its error."""
        try:
            response = json.loads(body)
        except ValueError:
            response = None
        if not isinstance(response, dict) and self._streamed and not body.lstrip().startswith(b"<"):
            attributes = read_safely(self._stream_attributes, body, complete)
            return attributes, str(attributes.pop("error.message", ""))
        if not isinstance(response, dict):
            if not complete:
                return {}, ""
            # A transcription in plain text, or a page in the place of an answer.
            response = body.decode(errors="replace") if self._endpoint.operation != "speech" else None
        return self._response_attributes(response)

    def _stream_attributes(self, body: bytes, complete: bool) -> Attributes:
        return stream_attributes(body, self._accumulator(), self.call.content, complete=complete)


def _without_cycle(stream: Any) -> Any:
    """Return the SDK's iterator over a copy of its stream, so that the stream ends when it is let go.

    The SDK's own iterator and its stream hold each other: both stay until the garbage collection comes by.
    """
    if not hasattr(stream, "__stream__"):
        return stream._iterator
    inner = copy(stream)
    inner._iterator = None
    return inner.__stream__()


class _UnreadChunks:
    """The chunks of a stream that we cannot read."""

    def add(self, _: Any) -> bool:
        """Ignore a chunk."""
        return True

    def attributes(self, _: bool, __: bool, /) -> Attributes:
        """Return no attributes."""
        return {}


class _ChunksOrBody:
    """The chunks of a stream, or the body that came in its place: an error as JSON, or a page."""

    def __init__(self, chunks: StreamAccumulator, body: _BodyAccumulator) -> None:
        self.body = body
        self._chunks, self._any = chunks, False

    def add(self, chunk: Any) -> bool:
        """Add a chunk."""
        self._any = True
        return self._chunks.add(chunk)

    def attributes(self, content: bool, complete: bool, /) -> Attributes:
        """Return the attributes of the chunks; without any, those of the body."""
        source = self._chunks if self._any or not complete else self.body
        return source.attributes(content, complete)


class _BodyAccumulator:
    """The pieces of a body that the application reads itself, up to a limit in bytes."""

    def __init__(self, request: _OpenAIRequest, http_response: Any, limit: int) -> None:
        self._request = request
        self._pieces: list[bytes] = []
        self._room = limit
        encoding = http_response.headers.get("content-encoding")
        kind: Any = type(http_response)
        self._decoded = partial(kind, 200, headers={"content-encoding": encoding}) if encoding else None

    def add(self, piece: bytes) -> bool:
        """Add a piece; a body over the limit is not read at all."""
        self._room -= len(piece)
        if self._room >= 0:
            self._pieces.append(piece)
        else:
            self._pieces.clear()
        return True

    def attributes(self, _content: bool, complete: bool, /) -> Attributes:
        """Return the attributes of the body."""
        body = b"".join(self._pieces)
        self._pieces.clear()
        if body and self._decoded is not None:
            body = self._decoded(content=body).content
        attributes, message = self._request.body_attributes(body, complete=complete)
        return attributes | ({"error.message": message} if message else {})


def _json_body(options: Any) -> Mapping[str, Any]:
    """Return the JSON that will be sent: the SDK's, overlaid by the application's `extra_body`."""
    body = options.json_data if isinstance(options.json_data, dict) else {}
    if options.extra_json is None:
        return body
    return {name: value for name, value in {**body, **options.extra_json}.items() if not _is_omitted(value)}


def _is_omitted(value: Any) -> bool:
    return type(value).__name__ == "Omit"


def _http_response(result: Any) -> Any:
    """Return the HTTP response whose body is the application's to read, if the result is or holds one."""
    fields = getattr(result, "__dict__", {})
    return result if "is_stream_consumed" in fields else fields.get("http_response")


_POSTHOG_REPORTS = frozenset({"/chat/completions", "/responses", "/embeddings"})


def _is_reported_by_posthog(client: Any, path: str) -> bool:
    """Whether PostHog's own wrapper (`posthog.ai.openai`) sends an event for this call: one is enough."""
    if normalize_path(path) not in _POSTHOG_REPORTS or not type(client).__module__.startswith("posthog.ai."):
        return False
    warn_once(
        "%s reports its calls itself, so they get no span; use the client of openai to have spans",
        type(client).__module__,
    )
    return True


@lru_cache(maxsize=64)
def server_attributes(base_url: str, azure: bool) -> Mapping[str, Any]:
    """Return the provider, and the address of its server."""
    address = urlsplit(base_url)
    host = address.hostname or ""
    provider = "azure.ai.openai" if azure or host.endswith(_AZURE) else "openai"
    port = address.port or (443 if address.scheme == "https" else 80)
    return {"gen_ai.provider.name": provider, "server.address": host, "server.port": port}
