"""Interactions as spans, instrumented where their generated client sends.

google-genai has had two such clients: `_interactions` (1.55 to early 2.x) and `_gaos` since. Both hand out an
HTTP response whose bytes are noted on their way to the SDK, and read when they have ended: nothing that the
user gets is replaced, and raw responses are followed like parsed ones.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, cast

from wrapt import register_post_import_hook

from instrumentors.common.call_span import Attributes, Call, logger, read, send, send_async, suppressed
from instrumentors.common.streams import StreamObserver, follow, follow_async
from instrumentors.gemini import interactions_payload as wire
from instrumentors.gemini.call import GeminiCall, current, request_id, tried
from instrumentors.gemini.payload import loads

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from opentelemetry.trace import Tracer

    from instrumentors.common.patching import Patches

Args = tuple[Any, ...]

_OPERATIONS = frozenset({"CreateInteraction", "CreateDecision"})
"""What `_gaos` sends to a model; the rest of it keeps agents, files and voices."""
_READABLE = ("json", "event-stream")
_PENDING = "_otel_posthog_pending"


def instrument(patches: Patches, tracer: Tracer, *, content: bool) -> None:
    """Wrap whichever client the SDK has, once it is imported: that takes a third of a second of its own."""
    sender = _Sender(tracer, content=content)
    for module_name, places in sender.places.items():
        register_post_import_hook(_Hook(patches, places), module_name)


class _Hook:
    """Wraps methods of a module that has just been imported."""

    def __init__(self, patches: Patches, places: tuple[tuple[str, str, Callable[..., Any]], ...]) -> None:
        self._patches, self._places = patches, places

    def __call__(self, module: ModuleType) -> None:
        for owner_name, name, wrapper in self._places if self._patches.active else ():
            owner = getattr(module, owner_name, None)
            if hasattr(owner, name):
                self._patches.wrap(owner, name, wrapper)
            elif wrapper not in _HELPFUL:
                logger.warning(
                    "google-genai has no %s.%s any more: interactions give no span", owner_name, name
                )


class _Sender:
    """Stands where either client sends."""

    def __init__(self, tracer: Tracer, *, content: bool) -> None:
        self.tracer, self.content = tracer, content
        self.places: dict[str, tuple[tuple[str, str, Callable[..., Any]], ...]] = {
            "google.genai._gaos.basesdk": (
                ("BaseSDK", "do_request", self.request),
                ("AsyncBaseSDK", "do_request_async", self.request_async),
            ),
            "google.genai._gaos._hooks.sdkhooks": (
                ("SDKHooks", "before_request", tried),
                ("SDKHooks", "after_parse_error", _note_failure),
            ),
            "google.genai._gaos._hooks.asyncsdkhooks": (
                ("AsyncSDKHooks", "before_request", tried),
                ("AsyncSDKHooks", "after_parse_error", _note_failure_later),
            ),
            "google.genai._interactions._base_client": (
                ("SyncAPIClient", "request", self.request),
                ("AsyncAPIClient", "request", self.request_async),
                ("SyncAPIClient", "_process_response", _note_response),
                ("AsyncAPIClient", "_process_response", _note_response),
                ("BaseClient", "_build_request", tried),
            ),
        }

    def request(self, wrapped: Callable[..., Any], sdk: Any, args: Args, kwargs: dict[str, Any]) -> Any:
        attempt = self._attempt(sdk, args, kwargs, asynchronous=False)
        return wrapped(*args, **kwargs) if attempt is None else send(wrapped, attempt)

    async def request_async(
        self, wrapped: Callable[..., Any], sdk: Any, args: Args, kwargs: dict[str, Any]
    ) -> Any:
        attempt = self._attempt(sdk, args, kwargs, asynchronous=True)
        return await (wrapped(*args, **kwargs) if attempt is None else send_async(wrapped, attempt))

    def _attempt(
        self, sdk: Any, args: Args, kwargs: dict[str, Any], *, asynchronous: bool
    ) -> _Attempt | None:
        try:
            found = _generated(kwargs) if "hook_ctx" in kwargs else _stainless(sdk, args, kwargs)
            if found is None or suppressed():
                return None
            body, address = found
            facts = read(wire.request_facts, body, self.content)
            facts = facts or {"gen_ai.operation.name": wire.OPERATION}
            facts.update(_server(address))
            call = cast("GeminiCall", GeminiCall.open(self.tracer, facts, content=self.content))
            return _Attempt(call, args, kwargs, asynchronous=asynchronous)
        except Exception as error:  # noqa: BLE001 - the user's call goes on without a span
            logger.debug("otel-posthog could not follow a call: %s", type(error).__name__)
            return None


def _generated(kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    """Find the body and the address in what `_gaos` sends, if it asks a model."""
    if kwargs["hook_ctx"].operation_id not in _OPERATIONS:
        return None
    request = kwargs["request"]
    return loads(request.content), request.url


def _stainless(sdk: Any, args: Args, kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    """Find the same in what `_interactions` sends."""
    options = args[1] if len(args) > 1 else kwargs["options"]
    if options.method.lower() != "post" or not options.url.endswith("/interactions"):
        return None
    body = options.json_data if isinstance(options.json_data, dict) else {}
    return {**body, **(options.extra_json or {})}, sdk._prepare_url(options.url)


def _server(url: Any) -> Attributes:
    """Name the service by the URL that is asked, of whichever HTTP library."""
    return {
        "gen_ai.provider.name": "gcp.vertex_ai" if wire.is_vertex(url.host, url.path) else "gcp.gemini",
        "server.address": url.host,
        "server.port": url.port or (443 if url.scheme == "https" else 80),
    }


def _note_response(wrapped: Callable[..., Any], _: Any, args: Args, kwargs: dict[str, Any]) -> Any:
    """Keep the HTTP response that `_interactions` makes its result of."""
    if (call := current()) is not None:
        call.response = kwargs.get("response")
    return wrapped(*args, **kwargs)


def _note_failure(wrapped: Callable[..., Any], _: Any, args: Args, kwargs: dict[str, Any]) -> Any:
    """End the call whose answer `_gaos` cannot read, with the error that the user gets."""
    error = wrapped(*args, **kwargs)
    _failed(args, error)
    return error


async def _note_failure_later(wrapped: Callable[..., Any], _: Any, args: Args, kwargs: dict[str, Any]) -> Any:
    error = await wrapped(*args, **kwargs)
    _failed(args, error)
    return error


def _failed(args: Args, error: BaseException) -> None:
    watch = getattr(args[1], "__dict__", {}).pop(_PENDING, None) if len(args) > 1 else None
    if watch is not None:
        watch.failed(error)


_HELPFUL = (tried, _note_failure, _note_failure_later)
"""Wrappers of what an SDK may lack: there are spans all the same."""


class _Attempt:
    """One request for an interaction, sent as it was given."""

    def __init__(self, call: GeminiCall, args: Args, kwargs: dict[str, Any], *, asynchronous: bool) -> None:
        self.call: Call = call
        self._call = call
        self.args, self.kwargs = args, kwargs
        self._asynchronous = asynchronous

    def again(self, _: Exception) -> bool:
        """Never send twice."""
        return False

    def answered(self, result: Any) -> Any:
        """End the call with its response, or follow the response while the SDK reads it."""
        call, response = self._call, self._call.response or result
        call.response = None
        try:
            if not call.recording:
                call.finish({})
            elif "hook_ctx" in self.kwargs and response.status_code < 400 and not _readable(response):
                # `_gaos` is about to say how it fails.
                call.fill(_answer(response, call)[0])
                vars(response)[_PENDING] = StreamObserver(Bytes(response), call=call)
            elif getattr(response, "is_stream_consumed", True) or response.status_code >= 400:
                call.finish(*_answer(response, call))
            else:
                follow_response(
                    response, StreamObserver(Bytes(response), call=call), asynchronous=self._asynchronous
                )
        except Exception as error:  # noqa: BLE001 - the user gets the answer all the same
            logger.debug("otel-posthog could not read a response: %s", type(error).__name__)
            call.finish({})
        return result


def _answer(response: Any, call: GeminiCall) -> tuple[Attributes, str]:
    # Of an error whose body has not been read yet, the status is enough.
    read_already = getattr(response, "is_stream_consumed", True)
    body = read(_body, response).get("body") if read_already else None
    if response.status_code >= 400:
        facts = wire.error_facts(body, response.status_code)
    else:
        facts = read(wire.response_facts, body, call.content)
    message = facts.pop("error.message", None)
    return {**facts, **request_id(response.headers)}, str(message or "") if call.content else ""


def _readable(response: Any) -> bool:
    """Whether the SDK can make something of it: what it calls itself, and is, as far as it is here."""
    kind = str(response.headers.get("content-type"))
    if not any(word in kind for word in _READABLE):
        return False
    return not getattr(response, "is_stream_consumed", True) or "body" in read(_body, response)


def _body(response: Any) -> Attributes:
    return {"body": loads(response.content)}


class Bytes:
    """Keeps the bytes of a response, to be read when they have ended."""

    def __init__(self, response: Any) -> None:
        self._pieces: list[bytes] = []
        self._facts = request_id(response.headers)

    def add(self, chunk: bytes) -> bool:
        """Take a piece."""
        self._pieces.append(chunk)
        return True

    def facts(self, content: bool, complete: bool, /) -> Attributes:
        """Read events, or the whole response where the SDK read one piece by piece."""
        body = b"".join(self._pieces)
        self._pieces.clear()
        found = wire.stream_facts(body, content, complete=complete)
        if not content:
            found.pop("error.message", None)
        return {**found, **self._facts}


def follow_response(response: Any, watch: StreamObserver, *, asynchronous: bool) -> None:
    """Note what is read of a response and when it is closed, by replacing two methods of this one object."""
    reader, closer = ("aiter_bytes", "aclose") if asynchronous else ("iter_bytes", "close")
    follower: Callable[..., Any] = follow_async if asynchronous else follow
    read_on, close_now, own = getattr(response, reader), getattr(response, closer), vars(response)
    seen = weakref.ref(watch)

    # The hooks go away when they are used, so that what has been read or closed leaves no cycle behind.
    def read_bytes(*args: Any, **kwargs: Any) -> Any:
        own.pop(reader, None)
        return follower(read_on(*args, **kwargs), watch)

    def close(*args: Any, **kwargs: Any) -> Any:
        own.pop(closer, None)
        watch = seen()
        # The SDK closes the response inside the read that ends or fails; that read tells more.
        if watch is not None and not watch.reading:
            own.pop(reader, None)
            watch.left()
        return close_now(*args, **kwargs)

    own.update({reader: read_bytes, closer: close})
