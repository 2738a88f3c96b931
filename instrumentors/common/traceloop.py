"""Traceloop's instrumentations that our spans cannot complete: they are off while ours is on.

- OpenAI Responses: its span starts when the call is over, and a failed call has none; `retrieve` counts
  tokens again; a module-global dict keeps every response for ever.
- Gemini: its span is never current, so we cannot find it; a stream that fails or is abandoned leaves it open;
  a blocked stream raises into the application.

Traceloop's spans of OpenAI's chat, completions and embeddings are open during the call, where `coexistence`
finds them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from wrapt import register_post_import_hook

if TYPE_CHECKING:
    from types import ModuleType

    from instrumentors.common.patching import Patches


class Wrappers(NamedTuple):
    """A set of Traceloop's wrappers: the factories that make them, and the SDK's methods that they wrap."""

    package: str
    modules: Sequence[str]
    factories: Sequence[str]
    wrapped_module: str
    owners: Sequence[str]
    methods: Sequence[str]


_OPENAI = "opentelemetry.instrumentation.openai"
RESPONSES = Wrappers(
    _OPENAI,
    (f"{_OPENAI}.v1.responses_wrappers", f"{_OPENAI}.v1"),
    (
        "responses_get_or_create_wrapper",
        "async_responses_get_or_create_wrapper",
        "responses_cancel_wrapper",
        "async_responses_cancel_wrapper",
    ),
    "openai.resources.responses",
    ("Responses", "AsyncResponses"),
    ("create", "retrieve", "parse", "cancel"),
)
_GEMINI = "opentelemetry.instrumentation.google_generativeai"
GEMINI = Wrappers(
    _GEMINI,
    (_GEMINI,),
    ("_wrap", "_awrap"),
    "google.genai.models",
    ("Models", "AsyncModels"),
    ("generate_content", "generate_content_stream"),
)


def silence(wrappers: Wrappers, patches: Patches) -> None:
    """Switch off the wrappers that are in place, and those that follow, until `patches` are undone."""
    for name in wrappers.modules:
        if name in sys.modules:
            _silence_factories(wrappers, patches, sys.modules[name])
        else:
            register_post_import_hook(partial(_silence_factories, wrappers, patches), name)
    module = sys.modules.get(wrappers.wrapped_module)
    for owner in filter(None, (getattr(module, name, None) for name in wrappers.owners)):
        for name in wrappers.methods:
            method = vars(owner).get(name)
            origin = getattr(getattr(method, "_self_wrapper", None), "__module__", None)
            if str(origin).startswith(wrappers.package):
                patches.replace(owner, name, cast("Any", method).__wrapped__)


def _silence_factories(wrappers: Wrappers, patches: Patches, module: ModuleType) -> None:
    for name in wrappers.factories:
        factory = vars(module).get(name)
        if factory is not None and not hasattr(factory, "silenced_by"):
            silenced: Any = _silenced(factory, patches)
            silenced.silenced_by = patches
            patches.replace(module, name, silenced)


def _silenced(factory: Callable[..., Any], patches: Patches) -> Callable[..., Any]:
    """Return a factory of wrappers that do nothing while `patches` are active."""

    def make_silenced(*args: Any, **kwargs: Any) -> Any:
        wrapper = factory(*args, **kwargs)

        def unless_active(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            if patches.active:
                return wrapped(*args, **kwargs)
            return wrapper(wrapped, instance, args, kwargs)

        return unless_active

    return make_silenced
