"""Gemini's SDK, patched at its three places of sending: requests, interactions and live sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instrumentors.common import traceloop
from instrumentors.common.call_span import logger
from instrumentors.common.coexistence import keep_span_current, keep_span_current_async
from instrumentors.common.instrumentor import SdkInstrumentor
from instrumentors.gemini import interactions, live
from instrumentors.gemini.call import count_try
from instrumentors.gemini.request import RequestWrappers

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from instrumentors.common.patching import Patches

_SENDING = ("request", "request_streamed", "async_request", "async_request_streamed")
# The SDK calls these once per try; the last one before a second try, after aiohttp has lost a connection.
_TRYING = ("_request_once", "_async_request_once", "_ensure_aiohttp_ssl_ctx")


class GeminiInstrumentor(SdkInstrumentor):
    """Spans for calls through the `google-genai` package, synchronous and asynchronous, streamed or not."""

    package, lowest, below, scope = "google-genai", "1.32", "4", "otel_posthog.gemini"

    def _patch(self, patches: Patches, tracer: Tracer, *, content: bool) -> None:
        from google.genai import _api_client, models

        wrappers = RequestWrappers(tracer, content=content)
        traceloop.silence(traceloop.GEMINI, patches)
        client = _api_client.BaseApiClient
        for name in _SENDING:
            if hasattr(client, name):
                patches.wrap(client, name, getattr(wrappers, name))
            else:
                logger.warning("google-genai has no %s any more: such calls give no span", name)
        patches.wrap(models.Models, "generate_content_stream", keep_span_current)
        patches.wrap(models.AsyncModels, "generate_content_stream", keep_span_current_async)
        for name in _TRYING:
            if hasattr(client, name):
                patches.wrap(client, name, count_try)
        interactions.instrument(patches, tracer, content=content)
        live.instrument(patches, tracer, content=content)
