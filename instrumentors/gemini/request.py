"""One request of `BaseApiClient`: what is read of it before it is sent, and of its response.

Its `request` and three siblings carry `generate_content`, its stream, chats, each round of automatic function
calling, `embed_content` and Imagen, for the Developer API and Vertex AI alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

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
from instrumentors.gemini.call import GeminiCallSpan, request_id
from instrumentors.gemini.endpoints import Endpoint, find_endpoint
from instrumentors.gemini.generate_content import GenerateContentAccumulator, error_attributes
from instrumentors.gemini.payload import loads, merge_deep

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Tracer

Args = tuple[Any, ...]


class RequestWrappers:
    """The wrappers around the SDK's four methods that send requests, each under its name."""

    def __init__(self, tracer: Tracer, *, content: bool) -> None:
        self.tracer, self.content = tracer, content

    def request(self, wrapped: Callable[..., Any], client: Any, args: Args, kwargs: dict[str, Any]) -> Any:
        """Wrap `BaseApiClient.request`."""
        request = self._open(client, args, kwargs, stream=False)
        return wrapped(*args, **kwargs) if request is None else send_in_span(wrapped, request)

    async def async_request(
        self, wrapped: Callable[..., Any], client: Any, args: Args, kwargs: dict[str, Any]
    ) -> Any:
        """Wrap `BaseApiClient.async_request`."""
        request = self._open(client, args, kwargs, stream=False)
        return await (wrapped(*args, **kwargs) if request is None else send_in_span_async(wrapped, request))

    def request_streamed(
        self, wrapped: Callable[..., Any], client: Any, args: Args, kwargs: dict[str, Any]
    ) -> Any:
        """Wrap `BaseApiClient.request_streamed`."""
        # A generator: the SDK sends the request for the first chunk, so the span is opened only then.
        stream = wrapped(*args, **kwargs)
        request = self._read(client, args, kwargs, stream=True)
        if request is None:
            return stream
        return follow(stream, StreamObserver(GenerateContentAccumulator(), start=request.open))

    async def async_request_streamed(
        self, wrapped: Callable[..., Any], client: Any, args: Args, kwargs: dict[str, Any]
    ) -> Any:
        """Wrap `BaseApiClient.async_request_streamed`."""
        request = self._open(client, args, kwargs, stream=True)
        return await (wrapped(*args, **kwargs) if request is None else send_in_span_async(wrapped, request))

    def _open(
        self, client: Any, args: Args, kwargs: dict[str, Any], *, stream: bool
    ) -> _GeminiRequest | None:
        """Read a request and open its span; None if it is no call to a model, or is to have no span."""
        request = self._read(client, args, kwargs, stream=stream)
        try:
            if request is not None:
                request.open()
        except Exception as error:  # noqa: BLE001 - a sampler's or a processor's; no span then
            logger.debug("otel-posthog could not follow a call: %s", type(error).__name__)
            return None
        return request

    def _read(
        self, client: Any, args: Args, kwargs: dict[str, Any], *, stream: bool
    ) -> _GeminiRequest | None:
        if is_suppressed():
            return None
        try:
            path, body, options = _arguments(args, kwargs)
            match = find_endpoint(path, body)
            if match is None:
                return None
            endpoint, model = match
            if extra := _option(client, options, "extra_body"):
                body = merge_deep(body, extra)
            attributes = {
                **read_safely(endpoint.request, body, model, self.content),
                "gen_ai.operation.name": endpoint.operation,
                "gen_ai.request.model": model,
                **({"gen_ai.request.stream": True} if stream else {}),
                **_server(client, options),
            }
            return _GeminiRequest(self, endpoint, attributes, args=args, kwargs=kwargs, stream=stream)
        except Exception as error:  # noqa: BLE001 - the user's call goes on without a span
            logger.debug("otel-posthog could not follow a call: %s", type(error).__name__)
            return None


class _GeminiRequest:
    """One request, sent as the application wrote it."""

    call: CallSpan

    def __init__(
        self,
        wrappers: RequestWrappers,
        endpoint: Endpoint,
        attributes: Attributes,
        *,
        args: Args,
        kwargs: dict[str, Any],
        stream: bool,
    ) -> None:
        self.args, self.kwargs = args, kwargs
        self._wrappers, self._endpoint = wrappers, endpoint
        self._attributes, self._stream = attributes, stream

    def open(self) -> CallSpan:
        """Open the span of the call."""
        wrappers = self._wrappers
        self.call = GeminiCallSpan.open(wrappers.tracer, self._attributes, content=wrappers.content)
        return self.call

    def should_retry(self, _: Exception) -> bool:
        """Return False: the SDK retries itself."""
        return False

    def handle_result(self, result: Any) -> Any:
        """End the call with its response, or follow its stream."""
        if self._stream:
            return follow_async(result, StreamObserver(GenerateContentAccumulator(), call=self.call))
        if not self.call.recording:
            self.call.end({})
            return result
        try:
            body = loads(result.body) if result.body else {}
        except ValueError as error:  # the SDK will fail at it, too
            self.call.fail(error, request_id(result.headers))
        except Exception as error:  # noqa: BLE001 - the result is the user's, whatever we make of it
            logger.debug("otel-posthog could not read a response: %s", type(error).__name__)
            self.call.end({})
        else:
            attributes = read_safely(self._endpoint.response, body, self.call.content)
            attributes |= read_safely(error_attributes, body, self.call.content)
            message = str(attributes.pop("error.message", ""))
            self.call.end({**attributes, **request_id(result.headers)}, message)
        return result


def _arguments(args: Args, kwargs: dict[str, Any]) -> tuple[str, dict[str, Any], Any]:
    """Return the path, the body and the HTTP options, which follow the HTTP method."""
    names = ("path", "request_dict", "http_options")
    path, body, options = (
        args[position] if len(args) > position else kwargs.get(name) for position, name in enumerate(names, 1)
    )
    return str(path), body or {}, options


def _option(client: Any, options: Any, name: str) -> Any:
    """Return an HTTP option: the request's own, otherwise the client's."""
    own = options.get(name) if isinstance(options, dict) else getattr(options, name, None)
    return own or getattr(client._http_options, name, None)


def _server(client: Any, options: Any) -> Attributes:
    vertex = bool(getattr(client, "vertexai", False))
    attributes: Attributes = {"gen_ai.provider.name": "gcp.vertex_ai" if vertex else "gcp.gemini"}
    address = urlsplit(str(_option(client, options, "base_url") or ""))
    if address.hostname:
        attributes["server.address"] = address.hostname
        attributes["server.port"] = address.port or (443 if address.scheme == "https" else 80)
    return attributes
