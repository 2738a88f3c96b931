"""Gemini calls as spans, instrumented where google-genai sends.

`BaseApiClient.request` and its three siblings carry `generate_content`, its stream, chats, each round of
automatic function calling, `embed_content` and Imagen, for the Developer API and Vertex AI alike.
Interactions and live sessions have places of their own.
"""

from __future__ import annotations

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
)
from instrumentors.common.coexistence import carried, carried_async
from instrumentors.common.patching import Patches, check_version
from instrumentors.common.streams import StreamObserver, follow, follow_async
from instrumentors.gemini import generate_content, interactions, live
from instrumentors.gemini.call import GeminiCall, request_id, tried
from instrumentors.gemini.payload import loads, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from opentelemetry.trace import Tracer

Args = tuple[Any, ...]

_SENDING = ("request", "request_streamed", "async_request", "async_request_streamed")
# What runs once per try; the last one before a second try that aiohttp's lost connections get.
_TRYING = ("_request_once", "_async_request_once", "_ensure_aiohttp_ssl_ctx")


class GeminiInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Spans for calls through the `google-genai` package, synchronous and asynchronous, streamed or not.

    `instrument(tracer_provider=None, capture_content=None)`; `capture_content=None` follows
    ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT``.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Name the versions that are known to work."""
        return ("google-genai >= 1.32, < 4",)

    def instrument(self, **kwargs: Any) -> Any:
        """Instrument; raises ModuleNotFoundError where `google-genai` is not installed."""
        # Our own check says once what is unusual and goes on; the base class would silently do nothing.
        kwargs.pop("skip_dep_check", None)
        return super().instrument(skip_dep_check=True, **kwargs)

    def _instrument(self, **kwargs: Any) -> None:
        from google.genai import _api_client, models

        check_version("google-genai", lowest=(1, 32), below=(4, 0))
        tracer = trace.get_tracer("otel_posthog.gemini", tracer_provider=kwargs.get("tracer_provider"))
        content = captures_content(kwargs.get("capture_content"))
        sender = _Sender(tracer, content=content)
        self._patches = patches = Patches()
        traceloop.silence(traceloop.GEMINI, patches)
        client = _api_client.BaseApiClient
        for name in _SENDING:
            if hasattr(client, name):
                patches.wrap(client, name, getattr(sender, name))
            else:
                logger.warning("google-genai has no %s any more: such calls give no span", name)
        patches.wrap(models.Models, "generate_content_stream", carried)
        patches.wrap(models.AsyncModels, "generate_content_stream", carried_async)
        for name in _TRYING:
            if hasattr(client, name):
                patches.wrap(client, name, tried)
        interactions.instrument(patches, tracer, content=content)
        live.instrument(patches, tracer, content=content)

    def _uninstrument(self, **_: Any) -> None:
        self._patches.undo()


class _Sender:
    """Stands at the SDK's one place of sending."""

    def __init__(self, tracer: Tracer, *, content: bool) -> None:
        self.tracer, self.content = tracer, content

    def request(self, wrapped: Callable[..., Any], client: Any, args: Args, kwargs: dict[str, Any]) -> Any:
        attempt = self._opened(client, args, kwargs, stream=False)
        return wrapped(*args, **kwargs) if attempt is None else send(wrapped, attempt)

    async def async_request(
        self, wrapped: Callable[..., Any], client: Any, args: Args, kwargs: dict[str, Any]
    ) -> Any:
        attempt = self._opened(client, args, kwargs, stream=False)
        return await (wrapped(*args, **kwargs) if attempt is None else send_async(wrapped, attempt))

    def request_streamed(
        self, wrapped: Callable[..., Any], client: Any, args: Args, kwargs: dict[str, Any]
    ) -> Any:
        # A generator: nothing is sent before its first chunk is asked for, so there is no span before that.
        stream = wrapped(*args, **kwargs)
        attempt = self._attempt(client, args, kwargs, stream=True)
        if attempt is None:
            return stream
        return follow(stream, StreamObserver(generate_content.Chunks(), start=attempt.open))

    async def async_request_streamed(
        self, wrapped: Callable[..., Any], client: Any, args: Args, kwargs: dict[str, Any]
    ) -> Any:
        attempt = self._opened(client, args, kwargs, stream=True)
        return await (wrapped(*args, **kwargs) if attempt is None else send_async(wrapped, attempt))

    def _opened(self, client: Any, args: Args, kwargs: dict[str, Any], *, stream: bool) -> _Attempt | None:
        attempt = self._attempt(client, args, kwargs, stream=stream)
        try:
            if attempt is not None:
                attempt.open()
        except Exception as error:  # noqa: BLE001 - a sampler's or a processor's; no span then
            logger.debug("otel-posthog could not follow a call: %s", type(error).__name__)
            return None
        return attempt

    def _attempt(self, client: Any, args: Args, kwargs: dict[str, Any], *, stream: bool) -> _Attempt | None:
        if suppressed():
            return None
        try:
            path, request, options = _arguments(args, kwargs)
            found = generate_content.find(path, request)
            if found is None:
                return None
            endpoint, model = found
            request = merged(request, extra) if (extra := _option(client, options, "extra_body")) else request
            facts = read(_request_facts, endpoint, request, model, stream, self.content)
            facts = facts or {"gen_ai.operation.name": endpoint.operation, "gen_ai.request.model": model}
            facts |= _server(client, options)
            return _Attempt(self, endpoint, facts, args=args, kwargs=kwargs, stream=stream)
        except Exception as error:  # noqa: BLE001 - the user's call goes on without a span
            logger.debug("otel-posthog could not follow a call: %s", type(error).__name__)
            return None


class _Attempt:
    """One request, sent as it was given."""

    call: Call

    def __init__(
        self,
        sender: _Sender,
        endpoint: generate_content.Endpoint,
        facts: Attributes,
        *,
        args: Args,
        kwargs: dict[str, Any],
        stream: bool,
    ) -> None:
        self.args, self.kwargs = args, kwargs
        self._endpoint, self._sender, self._facts, self._stream = endpoint, sender, facts, stream

    def open(self) -> Call:
        """Open the span of the call."""
        self.call = GeminiCall.open(self._sender.tracer, self._facts, content=self._sender.content)
        return self.call

    def again(self, _: Exception) -> bool:
        """Never send twice."""
        return False

    def answered(self, result: Any) -> Any:
        """End the call with its response, or follow its stream."""
        if self._stream:
            return follow_async(result, StreamObserver(generate_content.Chunks(), call=self.call))
        if not self.call.recording:
            self.call.finish({})
            return result
        try:
            body = loads(result.body) if result.body else {}
        except ValueError as error:  # the SDK is about to stumble over it, too
            self.call.fail(error, request_id(result.headers))
        except Exception as error:  # noqa: BLE001 - the result is the user's, whatever we make of it
            logger.debug("otel-posthog could not read a response: %s", type(error).__name__)
            self.call.finish({})
        else:
            facts = read(self._endpoint.response, body, self.call.content)
            self.call.finish({**facts, **request_id(result.headers)})
        return result


def _request_facts(
    endpoint: generate_content.Endpoint, request: Any, model: str, stream: bool, content: bool
) -> Attributes:
    return generate_content.request_facts(endpoint, request, model, stream=stream, content=content)


def _arguments(args: Args, kwargs: dict[str, Any]) -> tuple[str, dict[str, Any], Any]:
    """Find the path, the request and the HTTP options, which stand behind the method."""
    names = ("path", "request_dict", "http_options")
    path, request, options = (
        args[place] if len(args) > place else kwargs.get(name) for place, name in enumerate(names, 1)
    )
    return str(path), request or {}, options


def _option(client: Any, options: Any, name: str) -> Any:
    """Read an HTTP option: the request's own, else the client's."""
    own = options.get(name) if isinstance(options, dict) else getattr(options, name, None)
    return own or getattr(client._http_options, name, None)


def _server(client: Any, options: Any) -> Attributes:
    vertex = bool(getattr(client, "vertexai", False))
    facts: Attributes = {"gen_ai.provider.name": "gcp.vertex_ai" if vertex else "gcp.gemini"}
    address = urlsplit(str(_option(client, options, "base_url") or ""))
    if address.hostname:
        facts["server.address"] = address.hostname
        facts["server.port"] = address.port or (443 if address.scheme == "https" else 80)
    return facts
