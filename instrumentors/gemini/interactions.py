"""Interactions as spans, instrumented where their generated client sends.

google-genai has had two such clients: `_interactions` (1.55 to early 2.x) and `_gaos` since. Both return an
HTTP response. We keep its bytes on their way to the SDK and read them at their end, so no object of the
application's is replaced, and raw responses are followed like parsed ones.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, cast

from wrapt import register_post_import_hook

from instrumentors.common.call_span import (
    Attributes,
    CallSpan,
    is_suppressed,
    logger,
    read_safely,
    send_in_span,
    send_in_span_async,
)
from instrumentors.common.streams import StreamObserver, follow, follow_async
from instrumentors.gemini import interactions_payload as payload
from instrumentors.gemini.call import GeminiCallSpan, count_try, current_call, request_id
from instrumentors.gemini.payload import loads

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from opentelemetry.trace import Tracer

    from instrumentors.common.patching import Patches

Args = tuple[Any, ...]

_OPERATIONS = frozenset({"CreateInteraction", "CreateDecision"})
"""The operations of `_gaos` that ask a model; the others administer agents, files and voices."""
_READABLE = ("json", "event-stream")
_PENDING = "_otel_posthog_pending"
"""The attribute of a response that holds the observer of a call, until `_gaos` raises its error."""


def instrument(patches: Patches, tracer: Tracer, *, content: bool) -> None:
    """Wrap the client that the SDK has when the application imports it, which takes a third of a second."""
    wrappers = _RequestWrappers(tracer, content=content).by_module

    def wrap(module: ModuleType) -> None:
        for owner_name, name, wrapper in wrappers[module.__name__] if patches.active else ():
            owner = getattr(module, owner_name, None)
            if hasattr(owner, name):
                patches.wrap(owner, name, wrapper)
            elif wrapper not in _OPTIONAL:
                logger.warning(
                    "google-genai has no %s.%s any more: interactions give no span", owner_name, name
                )

    for module_name in wrappers:
        register_post_import_hook(wrap, module_name)


class _RequestWrappers:
    """The wrappers around the methods of either client."""

    def __init__(self, tracer: Tracer, *, content: bool) -> None:
        self.tracer, self.content = tracer, content
        self.by_module: dict[str, tuple[tuple[str, str, Callable[..., Any]], ...]] = {
            "google.genai._gaos.basesdk": (
                ("BaseSDK", "do_request", self.request),
                ("AsyncBaseSDK", "do_request_async", self.request_async),
            ),
            "google.genai._gaos._hooks.sdkhooks": (
                ("SDKHooks", "before_request", count_try),
                ("SDKHooks", "after_parse_error", _note_failure),
            ),
            "google.genai._gaos._hooks.asyncsdkhooks": (
                ("AsyncSDKHooks", "before_request", count_try),
                ("AsyncSDKHooks", "after_parse_error", _note_failure_async),
            ),
            "google.genai._interactions._base_client": (
                ("SyncAPIClient", "request", self.request),
                ("AsyncAPIClient", "request", self.request_async),
                ("SyncAPIClient", "_process_response", _note_response),
                ("AsyncAPIClient", "_process_response", _note_response),
                ("BaseClient", "_build_request", count_try),
            ),
        }

    def request(self, wrapped: Callable[..., Any], sdk: Any, args: Args, kwargs: dict[str, Any]) -> Any:
        request = self._open(sdk, args, kwargs, asynchronous=False)
        return wrapped(*args, **kwargs) if request is None else send_in_span(wrapped, request)

    async def request_async(
        self, wrapped: Callable[..., Any], sdk: Any, args: Args, kwargs: dict[str, Any]
    ) -> Any:
        request = self._open(sdk, args, kwargs, asynchronous=True)
        return await (wrapped(*args, **kwargs) if request is None else send_in_span_async(wrapped, request))

    def _open(
        self, sdk: Any, args: Args, kwargs: dict[str, Any], *, asynchronous: bool
    ) -> _InteractionRequest | None:
        """Open the span of a request; None if it asks no model, or is to have no span."""
        try:
            sent = _gaos_request(kwargs) if "hook_ctx" in kwargs else _older_request(sdk, args, kwargs)
            if sent is None or is_suppressed():
                return None
            body, url = sent
            attributes = read_safely(payload.request_attributes, body, self.content)
            attributes = attributes or {"gen_ai.operation.name": payload.OPERATION}
            attributes.update(_server(url))
            call = cast("GeminiCallSpan", GeminiCallSpan.open(self.tracer, attributes, content=self.content))
            return _InteractionRequest(call, args, kwargs, asynchronous=asynchronous)
        except Exception as error:  # noqa: BLE001 - the user's call goes on without a span
            logger.debug("otel-posthog could not follow a call: %s", type(error).__name__)
            return None


def _gaos_request(kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    """Return the body and the URL of a request of `_gaos`; None if it asks no model."""
    if kwargs["hook_ctx"].operation_id not in _OPERATIONS:
        return None
    request = kwargs["request"]
    return loads(request.content), request.url


def _older_request(sdk: Any, args: Args, kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    """Return the body and the URL of a request of `_interactions`; None if it asks no model."""
    options = args[1] if len(args) > 1 else kwargs["options"]
    if options.method.lower() != "post" or not options.url.endswith("/interactions"):
        return None
    body = options.json_data if isinstance(options.json_data, dict) else {}
    return {**body, **(options.extra_json or {})}, sdk._prepare_url(options.url)


def _server(url: Any) -> Attributes:
    """Return the service's name and address; `url` is of either HTTP library."""
    return {
        "gen_ai.provider.name": "gcp.vertex_ai" if payload.is_vertex(url.host, url.path) else "gcp.gemini",
        "server.address": url.host,
        "server.port": url.port or (443 if url.scheme == "https" else 80),
    }


def _note_response(wrapped: Callable[..., Any], _: Any, args: Args, kwargs: dict[str, Any]) -> Any:
    """Keep the HTTP response that `_interactions` parses."""
    if (call := current_call()) is not None:
        call.response = kwargs.get("response")
    return wrapped(*args, **kwargs)


def _note_failure(wrapped: Callable[..., Any], _: Any, args: Args, kwargs: dict[str, Any]) -> Any:
    """End the call whose answer `_gaos` cannot read, with the error that it raises."""
    error = wrapped(*args, **kwargs)
    _fail_pending(args, error)
    return error


async def _note_failure_async(wrapped: Callable[..., Any], _: Any, args: Args, kwargs: dict[str, Any]) -> Any:
    error = await wrapped(*args, **kwargs)
    _fail_pending(args, error)
    return error


def _fail_pending(args: Args, error: BaseException) -> None:
    observer = getattr(args[1], "__dict__", {}).pop(_PENDING, None) if len(args) > 1 else None
    if observer is not None:
        observer.fail(error)


_OPTIONAL = (count_try, _note_failure, _note_failure_async)
"""Wrappers of methods that an SDK may lack: there are spans without them."""


class _InteractionRequest:
    """One request for an interaction, sent as the application wrote it."""

    def __init__(
        self, call: GeminiCallSpan, args: Args, kwargs: dict[str, Any], *, asynchronous: bool
    ) -> None:
        self.call: CallSpan = call
        self._call = call
        self.args, self.kwargs = args, kwargs
        self._asynchronous = asynchronous

    def should_retry(self, _: Exception) -> bool:
        """Return False: the SDK retries itself."""
        return False

    def handle_result(self, result: Any) -> Any:
        """End the call with its response, or follow the response while the SDK reads it."""
        call, response = self._call, self._call.response or result
        call.response = None
        try:
            if not call.recording:
                call.end({})
            elif "hook_ctx" in self.kwargs and response.status_code < 400 and not _is_readable(response):
                # `_gaos` will raise an error, which `_note_failure` sees.
                call.set_attributes(_response_attributes(response, call)[0])
                vars(response)[_PENDING] = StreamObserver(_BodyAccumulator(response), call=call)
            elif getattr(response, "is_stream_consumed", True) or response.status_code >= 400:
                call.end(*_response_attributes(response, call))
            else:
                observer = StreamObserver(_BodyAccumulator(response), call=call)
                _follow_response(response, observer, asynchronous=self._asynchronous)
        except Exception as error:  # noqa: BLE001 - the user gets the answer all the same
            logger.debug("otel-posthog could not read a response: %s", type(error).__name__)
            call.end({})
        return result


def _response_attributes(response: Any, call: GeminiCallSpan) -> tuple[Attributes, str]:
    """Return the attributes of a response, and the message of its error."""
    # For an error whose body has not been read yet, the status is enough.
    was_read = getattr(response, "is_stream_consumed", True)
    body = read_safely(_body, response).get("body") if was_read else None
    if response.status_code >= 400:
        attributes = payload.error_attributes(body, response.status_code)
    else:
        attributes = read_safely(payload.response_attributes, body, call.content)
    message = attributes.pop("error.message", None)
    return {**attributes, **request_id(response.headers)}, str(message or "") if call.content else ""


def _is_readable(response: Any) -> bool:
    """Whether the SDK can parse the response, by its content type and by the body if that has been read."""
    kind = str(response.headers.get("content-type"))
    if not any(word in kind for word in _READABLE):
        return False
    return not getattr(response, "is_stream_consumed", True) or "body" in read_safely(_body, response)


def _body(response: Any) -> Attributes:
    return {"body": loads(response.content)}


class _BodyAccumulator:
    """The bytes of a response, kept and read when they have ended."""

    def __init__(self, response: Any) -> None:
        self._pieces: list[bytes] = []
        self._request_id = request_id(response.headers)

    def add(self, chunk: bytes) -> bool:
        """Add a piece."""
        self._pieces.append(chunk)
        return True

    def attributes(self, content: bool, complete: bool, /) -> Attributes:
        """Return the attributes of events, or of a response that the SDK read piece by piece."""
        body = b"".join(self._pieces)
        self._pieces.clear()
        attributes = payload.stream_attributes(body, content, complete=complete)
        if not content:
            attributes.pop("error.message", None)
        return {**attributes, **self._request_id}


def _follow_response(response: Any, observer: StreamObserver, *, asynchronous: bool) -> None:
    """Notify `observer` of a response's pieces and its close, by replacing two methods of this object."""
    reader, closer = ("aiter_bytes", "aclose") if asynchronous else ("iter_bytes", "close")
    follower: Callable[..., Any] = follow_async if asynchronous else follow
    sdk_read, sdk_close, own = getattr(response, reader), getattr(response, closer), vars(response)
    reference = weakref.ref(observer)

    # Each method removes itself when it is called, so that a response that was read or closed is in no cycle.
    def read_bytes(*args: Any, **kwargs: Any) -> Any:
        own.pop(reader, None)
        return follower(sdk_read(*args, **kwargs), observer)

    def close(*args: Any, **kwargs: Any) -> Any:
        own.pop(closer, None)
        observer = reference()
        # The SDK closes the response inside the read that ends or fails, and that read ends the call.
        if observer is not None and not observer.reading:
            own.pop(reader, None)
            observer.abandon()
        return sdk_close(*args, **kwargs)

    own.update({reader: read_bytes, closer: close})
