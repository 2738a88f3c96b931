"""OpenAI calls as spans, instrumented at `OpenAI.request` and `AsyncOpenAI.request`.

Every request of the SDK goes through these two. Inside them, a span that opentelemetry-instrumentation-openai
(Traceloop, the base that this instrumentor switches on) holds open for the call is completed with what it
lacks; where there is none, as for Responses and images, a span of our own is opened in the same place and
from the same table. `instrument(standalone=True)` goes without the base: then all spans are our own.
"""

from __future__ import annotations

import json
import weakref
from copy import copy
from functools import lru_cache
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from instrumentors import openai_wire, traceloop
from instrumentors.patches import Patches, check_version
from instrumentors.spans import Attributes, Call, captures_content, logger, read, send, send_async, suppressed
from instrumentors.streams import FollowedAsyncStream, FollowedStream, Watch, ends_with

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from opentelemetry.trace import Span, Tracer

_RAW = "X-Stainless-Raw-Response"
_AZURE = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")


class OpenAIInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Spans for calls through the `openai` package, synchronous and asynchronous, streamed or not.

    `instrument(tracer_provider=None, meter_provider=None, capture_content=None, standalone=False)`;
    `capture_content=None` follows ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT``.
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
        content = captures_content(kwargs.get("capture_content"))
        provider = kwargs.get("tracer_provider")
        # The base is instrumented first: our wrapper has to be inside of its own.
        self._base = None
        if not kwargs.get("standalone"):
            self._base = traceloop.start(
                lambda: traceloop.Traceloop(
                    content=content, tracer_provider=provider, meter_provider=kwargs.get("meter_provider")
                )
            )
        sender = _Sender(
            openai, trace.get_tracer("otel_posthog.openai", tracer_provider=provider), content=content
        )
        self._patches = Patches()
        self._patches.wrap(openai.OpenAI, "request", sender.request)
        self._patches.wrap(openai.AsyncOpenAI, "request", sender.request_async)

    def _uninstrument(self, **_: Any) -> None:
        self._patches.undo()
        if self._base is not None:
            self._base.close()


class _Sender:
    """Stands at the SDK's one place of sending."""

    def __init__(self, openai: Any, tracer: Tracer, *, content: bool) -> None:
        self.tracer, self.content = tracer, content
        self.stream_kinds = {
            openai.Stream: (FollowedStream, "close"),
            openai.AsyncStream: (FollowedAsyncStream, "aclose"),
        }
        self.refusing: set[str] = set()  # servers that do not know stream_options
        self._adopted: weakref.WeakSet[Span] = weakref.WeakSet()

    def request(
        self, wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        attempt = self._attempt(client, args, kwargs)
        return wrapped(*args, **kwargs) if attempt is None else send(wrapped, attempt)

    async def request_async(
        self, wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        attempt = self._attempt(client, args, kwargs)
        return await (wrapped(*args, **kwargs) if attempt is None else send_async(wrapped, attempt))

    def _attempt(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Attempt | None:
        if suppressed():
            return None
        try:
            options = args[1] if len(args) > 1 else kwargs["options"]
            endpoint = openai_wire.ENDPOINTS.get(options.url) if options.method.lower() == "post" else None
            if endpoint is None:
                return None
            body = options.json_data if isinstance(options.json_data, dict) else {}
            facts = read(openai_wire.request_facts, endpoint, body, options.files, self.content)
            if not facts:
                facts = {"gen_ai.operation.name": endpoint.operation}
            facts |= _server(str(client.base_url), "Azure" in type(client).__name__)
            return _Attempt(self, endpoint, self._open(facts), client=client, args=args, kwargs=kwargs)
        except Exception as error:  # noqa: BLE001 - the user's call goes on without a span
            logger.debug("otel-posthog could not follow a call: %s", type(error).__name__)
            return None

    def _open(self, facts: dict[str, Any]) -> Call:
        span = trace.get_current_span()
        scope = getattr(getattr(span, "instrumentation_scope", None), "name", "")
        if scope.startswith(traceloop.SCOPE) and span.is_recording() and span not in self._adopted:
            self._adopted.add(span)
            return Call.adopt(span, facts, content=self.content)
        return Call.open(self.tracer, facts, content=self.content)


class _Attempt:
    """One request; what is sent differs from what was given in ``include_usage`` at most."""

    def __init__(
        self,
        sender: _Sender,
        endpoint: openai_wire.Endpoint,
        call: Call,
        *,
        client: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.call, self.args, self.kwargs = call, args, kwargs
        self._sender, self._endpoint, self._server = sender, endpoint, str(client.base_url)
        self._options = options = args[1] if len(args) > 1 else kwargs["options"]
        # A raw response is for the user to read line by line: nothing can be hidden from him there.
        self._raw = hasattr(options.headers, "get") and bool(options.headers.get(_RAW))
        if callable(options.post_parser):
            self._note_before_parsing()
        body = options.json_data
        self._streamed = isinstance(body, dict) and body.get("stream") is True
        self._hides_usage = (
            self._streamed
            and call.recording
            and not self._raw
            and endpoint.gather is openai_wire.ChatGather
            and self._server not in sender.refusing
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

    def _ask_for_usage(self, body: Mapping[str, Any]) -> bool:
        given = body.get("stream_options") or {}
        if not isinstance(given, dict) or "include_usage" in given:
            return False
        options = copy(self._options)
        options.json_data = {**body, "stream_options": {**given, "include_usage": True}}
        self._replace(options)
        return True

    def _replace(self, options: Any) -> None:
        if len(self.args) > 1:
            self.args = (self.args[0], options, *self.args[2:])
        else:
            self.kwargs = {**self.kwargs, "options": options}

    def again(self, error: Exception) -> bool:
        """Send as the user wrote it where a server does not know the option that we added."""
        refused = getattr(error, "status_code", None) in {400, 422} and "stream_options" in str(error)
        if not (self._hides_usage and refused):
            return False
        self._sender.refusing.add(self._server)
        self._hides_usage = False
        self._replace(self._options)
        return True

    def answered(self, result: Any) -> Any:
        """End the call with its response, or follow its stream."""
        try:
            return self._follow(result)
        except Exception as error:  # noqa: BLE001 - the result is the user's, whatever we make of it
            logger.debug("otel-posthog could not read a result: %s", type(error).__name__)
            self.call.finish({})
            return result

    def _follow(self, result: Any) -> Any:
        if not self.call.recording:
            self.call.finish({})
        elif self._raw:
            self._follow_raw(result)
        elif self._streamed:
            return self._follow_stream(result, self._watch())
        else:
            self.call.finish(*self._facts(result))
        return result

    def _facts(self, response: Any) -> tuple[Attributes, str]:
        facts = read(self._endpoint.response, response, self.call.content)
        return facts, str(facts.pop("error.message", ""))

    def _watch(self) -> Watch:
        if self._endpoint.gather is openai_wire.ChatGather:
            return Watch(openai_wire.ChatGather(hide_usage=self._hides_usage), call=self.call)
        return Watch((self._endpoint.gather or openai_wire.ImageGather)(), call=self.call)

    def _follow_stream(self, stream: Any, watch: Watch) -> Any:
        for kind, (proxy, closer) in self._sender.stream_kinds.items():
            if isinstance(stream, kind):
                ends_with(stream.response, watch, closer)
                return proxy(stream, watch)
        watch.left()
        return stream

    def _follow_raw(self, response: Any) -> None:
        """Read a raw response that is here already; else wait for the user to parse it."""
        if not self._streamed and (body := getattr(response.http_response, "_content", None)) is not None:
            self.call.finish(*self._facts(json.loads(body)))
            return
        self.call.take_over()
        watch, parse = self._watch(), type(response).parse
        held = weakref.ref(response)  # a response that held itself would not free its connection

        def followed(parsed: Any) -> Any:
            if self._streamed:
                return self._follow_stream(parsed, watch)
            self.call.finish(*self._facts(parsed))
            return parsed

        async def parse_async(*args: Any, **kwargs: Any) -> Any:
            return followed(await parse(held(), *args, **kwargs))

        def parse_sync(*args: Any, **kwargs: Any) -> Any:
            return followed(parse(held(), *args, **kwargs))

        response.parse = parse_async if iscoroutinefunction(parse) else parse_sync


@lru_cache(maxsize=64)
def _server(base_url: str, azure: bool) -> Mapping[str, Any]:
    address = urlsplit(base_url)
    host = address.hostname or ""
    provider = "azure.ai.openai" if azure or host.endswith(_AZURE) else "openai"
    port = address.port or (443 if address.scheme == "https" else 80)
    return {"gen_ai.provider.name": provider, "server.address": host, "server.port": port}
