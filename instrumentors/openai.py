"""OpenAI calls as spans, instrumented at `OpenAI.request` and `AsyncOpenAI.request`.

Every request of the SDK goes through these two. Inside of them a neighbour's span that is open for the same
call is completed with what it lacks (`neighbours`); where there is none, a span of our own is opened.

Our own span is the default also where opentelemetry-instrumentation-openai (Traceloop) is installed, as it is
with `otel-posthog[openai]`: it has no span for images, audio, failed responses and moderations, leaves
cancelled calls open, and costs several times as much per call and most per streamed chunk (measured by
`benchmarks/instrument.py`). Whoever switches it on keeps it, and gets one span a call all the same.
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
from instrumentors.neighbours import covers, without_neighbour
from instrumentors.patches import Patches, check_version
from instrumentors.spans import (
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
from instrumentors.streams import Watch, completes_with, ends_with, follow, follow_async

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from opentelemetry.trace import Tracer

    Send = Callable[..., Any]

_RAW = "X-Stainless-Raw-Response"
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
        tracer = trace.get_tracer("otel_posthog.openai", tracer_provider=kwargs.get("tracer_provider"))
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
    """Count the attempts of the call whose span is current, before the SDK waits and tries again."""
    taken = kwargs.get("retries_taken")
    if isinstance(taken, int):
        trace.get_current_span().set_attribute("posthog.retry.count", taken + 1)
    return wrapped(*args, **kwargs)


class _Sender:
    """Stands at the SDK's one place of sending."""

    def __init__(self, openai: Any, tracer: Tracer, *, content: bool) -> None:
        self.tracer, self.content = tracer, content
        self.stream_kinds: dict[Any, tuple[Callable[..., Any], str]] = {
            openai.Stream: (follow, "close"),
            openai.AsyncStream: (follow_async, "aclose"),
        }
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
            endpoint = openai_wire.ENDPOINTS.get(options.url) if options.method.lower() == "post" else None
            if endpoint is None or suppressed() or _reported_by_posthog(client, options.url):
                return None
            body = options.json_data if isinstance(options.json_data, dict) else {}
            facts = read(openai_wire.request_facts, endpoint, body, options.files, self.content)
            if not facts:
                facts = {"gen_ai.operation.name": endpoint.operation}
            facts.update(_server(str(client.base_url), "Azure" in type(client).__name__))
            call = Call.open(self.tracer, facts, content=self.content)
            call.alone = self.alone
            return _Attempt(self, endpoint, call, client=client, args=args, kwargs=kwargs)
        except Exception as error:  # noqa: BLE001 - the user's call goes on without a span
            logger.debug("otel-posthog could not follow a call: %s", type(error).__name__)
            return None


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
        self._sender, self._endpoint, self._client = sender, endpoint, client
        if (stream_class := kwargs.get("stream_cls")) is not None:
            self.kwargs = {**kwargs, "stream_cls": without_neighbour(stream_class)}
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
            and str(client.base_url) not in sender.refusing
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
        self._sender.refusing.add(str(self._client.base_url))
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
            self._follow_stream(result, self._watch())
        else:
            self.call.finish(*self._facts(result))
        return result

    def _facts(self, response: Any) -> tuple[Attributes, str]:
        facts = read(self._endpoint.response, response, self.call.content)
        if request_id := getattr(response, "_request_id", None):
            facts["posthog.request.id"] = request_id
        return facts, str(facts.pop("error.message", ""))

    def _watch(self) -> Watch:
        gather = self._endpoint.gather
        if gather is openai_wire.ChatGather:
            return Watch(openai_wire.ChatGather(hide_usage=self._hides_usage), call=self.call)
        return Watch((gather or openai_wire.Nothing)(), call=self.call)

    def _follow_stream(self, stream: Any, watch: Watch) -> Any:
        for kind, (following, closer) in self._sender.stream_kinds.items():
            if isinstance(stream, kind):
                self._note_response(stream.response)
                ends_with(stream.response, watch, closer)
                # The stream stays the SDK's own; what it iterates over is ours.
                stream._iterator = following(stream._iterator, watch)
                return stream
        watch.left()
        return stream

    def _note_response(self, response: Any) -> None:
        if request_id := response.headers.get("x-request-id"):
            self.call.fill({"posthog.request.id": request_id})

    def _follow_raw(self, response: Any) -> None:
        """Read a raw response that is here already; else wait for the user to read it."""
        http = response.http_response
        self._note_response(http)
        if self._streamed:
            watch = self._watch()
            self._follow_parsed_stream(response, watch)
        elif hasattr(http, "_content"):
            self.call.finish(*self._facts(self._decoded(http.content)))
            return
        else:
            watch = Watch(_Body(self, http), call=self.call)
            completes_with(http, watch)
        for closer in ("close", "aclose"):
            ends_with(http, watch, closer)

    def _follow_parsed_stream(self, response: Any, watch: Watch) -> None:
        parse = type(response).parse
        held = weakref.ref(response)  # a response that held itself would not free its connection

        def parse_sync(*args: Any, **kwargs: Any) -> Any:
            return self._follow_stream(parse(held(), *args, **kwargs), watch)

        async def parse_async(*args: Any, **kwargs: Any) -> Any:
            return self._follow_stream(await parse(held(), *args, **kwargs), watch)

        response.parse = parse_async if iscoroutinefunction(parse) else parse_sync

    def _decoded(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except ValueError:  # plain text, or audio
            return body.decode(errors="replace") if self._endpoint.operation != "speech" else None


class _Body:
    """What a raw response tells when the user has read it."""

    def __init__(self, attempt: _Attempt, http: Any) -> None:
        self._attempt, self._http = attempt, weakref.ref(http)  # the response holds us

    def add(self, _: Any) -> bool:
        return True

    def facts(self, _content: bool, _complete: bool, /) -> Attributes:
        body = getattr(self._http(), "_content", None)
        if body is None:
            return {}
        facts, message = self._attempt._facts(self._attempt._decoded(body))
        return facts | ({"error.message": message} if message else {})


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
