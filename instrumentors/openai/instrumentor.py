"""OpenAI's SDK, patched at `OpenAI.request` and `AsyncOpenAI.request`, through which all its requests go.

Inside these two, a span that another instrumentor has open for the same call is completed (`coexistence`);
otherwise we open a span of our own.

Our own span is the default even if opentelemetry-instrumentation-openai (Traceloop) is installed, which comes
with the extra `openai`: it has no span for images, audio, failed responses and moderations, leaves cancelled
calls open, and costs several times as much per call and most per streamed chunk (measured by
`benchmarks/instrument.py`). Whether it is switched on or not, a call has one span.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from instrumentors.common import traceloop
from instrumentors.common.attributes import RETRY_COUNT
from instrumentors.common.call_span import logger
from instrumentors.common.coexistence import has_hidden_wrapper, is_adopted, scope_name
from instrumentors.common.instrumentor import SdkInstrumentor
from instrumentors.openai import websockets
from instrumentors.openai.request import RequestWrappers

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Tracer

    from instrumentors.common.patching import Patches

_SCOPE = "otel_posthog.openai"


class OpenAIInstrumentor(SdkInstrumentor):
    """Spans for calls through the `openai` package, synchronous and asynchronous, streamed or not."""

    package, lowest, below, scope = "openai", "2", "4", _SCOPE

    def _patch(self, patches: Patches, tracer: Tracer, *, content: bool) -> None:
        import openai

        wrappers = RequestWrappers(openai, tracer, content=content)
        traceloop.silence(traceloop.RESPONSES, patches)
        for client, request in (
            (openai.OpenAI, wrappers.request),
            (openai.AsyncOpenAI, wrappers.request_async),
        ):
            if hasattr(client, "request"):
                original = patches.wrap(client, "request", request)
                wrappers.suppress_others |= has_hidden_wrapper(original)
            else:
                logger.warning("openai has no %s.request any more: such calls give no span", client.__name__)
            if hasattr(client, "_sleep_for_retry"):
                patches.wrap(client, "_sleep_for_retry", _count_retry)
        websockets.instrument(patches, tracer, content=content)


def _count_retry(wrapped: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Count a retry on the span of the call, before the SDK waits and tries again.

    During a request that is no call to a model, the current span is the application's.
    """
    retries, span = kwargs.get("retries_taken"), trace.get_current_span()
    if isinstance(retries, int) and (scope_name(span) == _SCOPE or is_adopted(span)):
        span.set_attribute(RETRY_COUNT, retries + 1)
    return wrapped(*args, **kwargs)
