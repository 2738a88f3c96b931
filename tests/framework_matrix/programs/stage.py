"""What each program stands on: the product and one instrumentation are switched on when this is imported.

A program imports it first, as an application would switch its telemetry on before anything else, and
ends with `run(...)`. Nothing is flushed: what the application does not wait for, its end has to bring.
"""

import asyncio
import inspect
import json
import os
import time
import urllib.request
from collections.abc import Callable
from importlib import import_module

PROVIDER = os.environ["MATRIX_PROVIDER"]
WAY = os.environ["MATRIX_WAY"]
GEMINI_KEY = "key-of-nobody"
MODEL, GEMINI, EMBEDDER = "gpt-5-mini", "gemini-2.5-flash", "text-embedding-3-small"

HELLO = "Say hello."
WEATHER = "How is the weather in Paris? @call:get_weather"
FAIL = "Say hello. @fail:500"

Scenario = Callable[[], object]


def _switch_on() -> None:
    """Switch on, in this order: processors that change spans, the product, instrumentors."""
    if not os.environ.get("MATRIX_ZERO_CODE"):
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider

        provider = TracerProvider()
        if processor := os.environ.get("MATRIX_PROCESSOR"):
            provider.add_span_processor(_call(processor))
        trace.set_tracer_provider(provider)
    if os.environ.get("MATRIX_CONFIGURE"):
        from otel_posthog import configure

        configure()
    if call := os.environ.get("MATRIX_CALL"):
        instrumentor = _call(call)
        if hasattr(instrumentor, "instrument"):
            instrumentor.instrument()


def _call(path: str) -> object:
    module, _, names = path.partition(":")
    target = import_module(module)
    for name in names.split("."):
        target = getattr(target, name)
    return target()


_switch_on()

from opentelemetry import trace
from otel_posthog import ai_context


def get_weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"It is sunny in {city}."


def below_a_server(scenario: Scenario) -> Scenario:
    """Run a scenario inside of a span of the application, as below a web server."""
    tracer = trace.get_tracer("the.application")
    name = f"{scenario.__name__}_below_a_server"
    if inspect.iscoroutinefunction(scenario):

        async def below() -> object:
            with tracer.start_as_current_span("POST /chat"):
                return await scenario()

    else:

        def below() -> object:
            with tracer.start_as_current_span("POST /chat"):
                return scenario()

    below.__name__ = name
    return below


async def drain(stream: object) -> None:
    """Read an asynchronous stream to its end."""
    async for _ in stream:
        pass


def run(*scenarios: Scenario) -> None:
    """Run the scenarios one after the other, each in a context of its own, and write down how each ended."""
    chosen, unseen = (os.environ.get(name, "").split(",") for name in ("MATRIX_SCENARIOS", "MATRIX_UNSEEN"))
    for scenario in scenarios:
        name = scenario.__name__
        if name in unseen or (chosen != [""] and name not in chosen):
            continue
        _post("/_scenario", {"name": name})
        problem = None
        started = time.monotonic()
        with ai_context(feature=name, user_id="user_42", chat_id="chat-7"):
            try:
                asyncio.run(scenario()) if inspect.iscoroutinefunction(scenario) else scenario()
            except Exception as error:  # noqa: BLE001 - a scenario that fails is an outcome
                problem = f"{type(error).__name__}: {error}"[:300]
        _write({"scenario": name, "problem": problem, "seconds": round(time.monotonic() - started, 2)})


def _post(path: str, body: dict[str, object]) -> None:
    request = urllib.request.Request(
        PROVIDER + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request).read()


def _write(line: dict[str, object]) -> None:
    with open(os.environ["MATRIX_OUTCOMES"], "a", encoding="utf-8") as file:  # noqa: PTH123
        file.write(json.dumps(line) + "\n")
