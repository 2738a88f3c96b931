"""What of Traceloop's instrumentations cannot be completed, and is therefore silenced while ours is on.

- OpenAI Responses: its span is made when the call is over, none for a failed one; `retrieve` counts tokens
  again; every response is kept in a module-global dict for ever.
- Gemini: its span is never made current, so that ours cannot find it; a stream that fails or is left never
  ends it; a blocked stream raises into the user's code.

Its other spans, of OpenAI's chat, completions and embeddings, are open during the call, where `neighbours`
sees them.
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

__all__ = ["GEMINI", "RESPONSES", "Wrappers", "silence"]


class Wrappers(NamedTuple):
    """Where Traceloop makes wrappers, and what it wraps with them."""

    package: str
    modules: Sequence[str]
    makers: Sequence[str]
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
    """Silence the wrappers that are on, and those that are still to come, until `patches` are undone."""
    for name in wrappers.modules:
        if name in sys.modules:
            _silence_makers(wrappers, patches, sys.modules[name])
        else:
            register_post_import_hook(partial(_silence_makers, wrappers, patches), name)
    module = sys.modules.get(wrappers.wrapped_module)
    for owner in filter(None, (getattr(module, name, None) for name in wrappers.owners)):
        for name in wrappers.methods:
            method = vars(owner).get(name)
            maker = getattr(getattr(method, "_self_wrapper", None), "__module__", None)
            if str(maker).startswith(wrappers.package):
                patches.replace(owner, name, cast("Any", method).__wrapped__)


def _silence_makers(wrappers: Wrappers, patches: Patches, module: ModuleType) -> None:
    for name in wrappers.makers:
        make = vars(module).get(name)
        if make is not None and not hasattr(make, "silenced_by"):
            silenced: Any = _silenced(make, patches)
            silenced.silenced_by = patches
            patches.replace(module, name, silenced)


def _silenced(make: Callable[..., Any], patches: Patches) -> Callable[..., Any]:
    def make_silenced(*args: Any, **kwargs: Any) -> Any:
        wrapper = make(*args, **kwargs)

        def unless_active(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            if patches.active:
                return wrapped(*args, **kwargs)
            return wrapper(wrapped, instance, args, kwargs)

        return unless_active

    return make_silenced
