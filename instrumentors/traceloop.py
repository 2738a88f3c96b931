"""Traceloop's opentelemetry-instrumentation-openai, which `OpenAIInstrumentor` builds on, mended.

Its spans for chat, completions and embeddings are completed in place. Its wrappers around Responses are taken
off: they make their span after the call, none for a failed response, count tokens again on `retrieve`, and
keep every response in a module-global dict for ever. It also sends `traceparent` to the provider and loses
messages that hold base64 images; both are settings. And its `uninstrument` removes nothing (it names the
methods in a way that OpenTelemetry's `unwrap` does not resolve), which would double its spans the next time.

A wrapper outside of its own keeps it from reading the user's generators empty, from adding to the user's
`extra_headers`, and from putting the SDK's `omit` markers onto spans with a warning each.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from instrumentors.patches import Patches

if TYPE_CHECKING:
    from collections.abc import Callable

SCOPE = "opentelemetry.instrumentation.openai"
_RESPONSES = (
    "openai.resources.responses",
    ("Responses", "AsyncResponses"),
    ("create", "retrieve", "parse", "cancel"),
)
_CHAT = (
    ("openai.resources.chat.completions", ("Completions", "AsyncCompletions"), ("create", "parse")),
    ("openai.resources.completions", ("Completions", "AsyncCompletions"), ("create",)),
    ("openai.resources.embeddings", ("Embeddings", "AsyncEmbeddings"), ("create",)),
)
_WRAPPED = (
    *_CHAT,
    ("openai.resources.images", ("Images",), ("generate",)),
    ("openai.resources.beta.assistants", ("Assistants",), ("create",)),
    ("openai.resources.beta.threads.runs", ("Runs",), ("create", "retrieve", "create_and_stream")),
    ("openai.resources.beta.threads.messages", ("Messages",), ("list",)),
    ("openai.resources.beta.realtime.realtime", ("Realtime", "AsyncRealtime"), ("connect",)),
    _RESPONSES,
)


class Traceloop:
    """Traceloop's instrumentor as the base: switched on where it is not yet, and set to do no harm."""

    def __init__(self, *, content: bool, tracer_provider: Any, meter_provider: Any) -> None:
        from opentelemetry._logs import NoOpLoggerProvider

        with warnings.catch_warnings():
            # It uses what pydantic deprecates, which is nothing to tell the application's developers.
            warnings.simplefilter("ignore", DeprecationWarning)
            from opentelemetry.instrumentation.openai import OpenAIInstrumentor
            from opentelemetry.instrumentation.openai.shared.config import Config

            import_module("opentelemetry.instrumentation.openai.v1")

        self._config: Any = Config
        self._before = dict(vars(Config))
        self._content = content
        known: Any = OpenAIInstrumentor._instance
        self._ours = known is None or not known.is_instrumented_by_opentelemetry
        if self._ours:
            known = OpenAIInstrumentor(use_attributes=content, enable_trace_context_propagation=False)
            known.instrument(
                skip_dep_check=True,
                tracer_provider=tracer_provider,
                meter_provider=meter_provider,
                # With content off messages would otherwise go into log events.
                **({} if content else {"logger_provider": NoOpLoggerProvider()}),
            )
        self._instrumentor = known
        self._settle()
        _unwrap(_RESPONSES)
        self._shields = Patches()
        self._shield()
        # Its own entry point may come later: that is no mistake to warn of, and nothing to do twice.
        known.instrument = self._already
        known.uninstrument = self._uninstrument

    def _shield(self) -> None:
        import openai

        markers = tuple(kind for name in ("NotGiven", "Omit") if (kind := getattr(openai, name, None)))

        def shield(wrapped: Any, _: Any, args: Any, kwargs: dict[str, Any]) -> Any:
            given = {name: value for name, value in kwargs.items() if not isinstance(value, markers)}
            for name in ("messages", "input", "prompt"):
                if isinstance(given.get(name), Iterator):
                    given[name] = list(given[name])
            if isinstance(headers := given.get("extra_headers"), Mapping):
                given["extra_headers"] = dict(headers)
            return wrapped(*args, **given)

        for module_name, owners, names in _CHAT:
            module = import_module(module_name)
            for owner in owners:
                for name in names:
                    if hasattr(getattr(module, owner), name):
                        self._shields.wrap(getattr(module, owner), name, shield)

    def _settle(self) -> None:
        self._config.enable_trace_context_propagation = False
        self._config.upload_base64_image = None
        self._config.use_legacy_attributes = self._content

    def _already(self, **_: Any) -> None:
        # Looking the instrumentor up has run its constructor, which resets its settings.
        self._settle()

    def _uninstrument(self, **kwargs: Any) -> None:
        self._release()
        self._shields.undo()
        self._instrumentor.uninstrument(**kwargs)
        unwrap_all()

    def _release(self) -> None:
        for name in ("instrument", "uninstrument"):
            self._instrumentor.__dict__.pop(name, None)

    def close(self) -> None:
        """Give Traceloop back as it was found."""
        if self._ours and self._instrumentor.is_instrumented_by_opentelemetry:
            self._uninstrument()
        self._shields.undo()
        self._release()
        for name in ("enable_trace_context_propagation", "upload_base64_image", "use_legacy_attributes"):
            if name in self._before:
                setattr(self._config, name, self._before[name])


def _unwrap(place: tuple[str, tuple[str, ...], tuple[str, ...]]) -> None:
    """Take Traceloop's wrappers off, as far as nobody has wrapped them since."""
    module_name, owners, names = place
    try:
        module = import_module(module_name)
    except ImportError:
        return
    for owner in filter(None, (getattr(module, owner, None) for owner in owners)):
        for name in names:
            method = vars(owner).get(name)
            wrapper = getattr(method, "_self_wrapper", None)
            if getattr(wrapper, "__module__", "").startswith(SCOPE):
                setattr(owner, name, cast("Any", method).__wrapped__)


def unwrap_all() -> None:
    """Take all of Traceloop's wrappers off, which its own `uninstrument` leaves."""
    for place in _WRAPPED:
        _unwrap(place)


def start(make: Callable[[], Traceloop]) -> Traceloop | None:
    """Start the base; None where Traceloop is not installed: then all spans are our own."""
    try:
        return make()
    except ImportError:
        return None
