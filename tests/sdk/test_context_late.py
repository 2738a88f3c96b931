"""Context that is added late, or reaches other threads, tasks and services, and never another request."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import anyio.to_thread
import posthog
import pytest
from opentelemetry import baggage, propagate
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from otel_posthog import (
    ContextThreadPoolExecutor,
    PostHogSpanExporter,
    PostHogSpanProcessor,
    ai_context,
    update_ai_context,
)
from otel_posthog.conversion.context_attributes import ARGUMENTS
from otel_posthog.local import Inbox
from otel_posthog.sdk.context.ai_context import ContextFields, current_attributes, send_as_baggage
from tests.support.spans import CHAT


def user() -> Any:
    return current_attributes().get("posthog.distinct_id")


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    send_as_baggage(())
    assert current_attributes() == {}


Attach = Callable[..., Tracer]


@pytest.fixture
def attach() -> Iterator[Attach]:
    """Makes a tracer whose finished spans are in `tracer.exported()`."""
    providers: list[TracerProvider] = []

    def make(**options: Any) -> Any:
        processor = PostHogSpanProcessor(
            PostHogSpanExporter(api_key="phc_test", endpoint="http://127.0.0.1:9", timeout=0.05, **options)
        )
        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        providers.append(provider)
        tracer: Any = provider.get_tracer("tests")
        tracer.exported = exporter.get_finished_spans
        return tracer

    yield make
    for provider in providers:
        provider.shutdown()


# --- late words ---


def test_late_words_hold_until_the_context_ends() -> None:
    with ai_context(feature="x"):
        assert update_ai_context(user_id="u", properties={"plan": "pro"})
        assert current_attributes() == {
            "posthog.feature": "x",
            "posthog.distinct_id": "u",
            "posthog.property.plan": "pro",
        }
        assert update_ai_context(user_id="v")
        assert user() == "v"
    assert user() is None


def test_late_values_outlive_the_span_in_which_they_were_set(attach: Attach) -> None:
    tracer: Any = attach()
    with ai_context(feature="x"):
        with tracer.start_as_current_span("authenticate"):
            update_ai_context(user_id="u")
        tracer.start_span("chat", attributes=CHAT).end()
    assert tracer.exported()[-1].attributes["posthog.distinct_id"] == "u"


def test_late_words_in_an_inner_context_end_with_it() -> None:
    with ai_context(user_id="outer"):
        with ai_context(feature="x"):
            update_ai_context(user_id="inner")
            assert user() == "inner"
        assert user() == "outer"


def test_an_inner_context_has_the_late_values_of_the_outer_one() -> None:
    with ai_context(feature="x"):
        update_ai_context(user_id="late")
        with ai_context(chat_id=1):
            assert user() == "late"


def test_late_words_outlive_any_number_of_contexts_inside() -> None:
    with ai_context(feature="x"):
        update_ai_context(user_id="u", privacy_mode=True)
        for number in range(50):
            with ai_context(chat_id=number):
                update_ai_context(session_id=f"s{number}")
                assert (user(), current_attributes()["posthog.privacy_mode"]) == ("u", True)
        assert (user(), current_attributes()["posthog.privacy_mode"]) == ("u", True)


def test_late_words_in_a_generator_hold_whoever_runs_its_next_step() -> None:
    @ai_context(feature="x")
    def stream() -> Iterator[Any]:
        update_ai_context(user_id="u")
        yield user()
        yield user()

    users: list[Any] = []
    steps = stream()
    users.append(next(steps))
    thread = threading.Thread(target=lambda: users.append(next(steps)))
    thread.start()
    thread.join()

    @ai_context(feature="x")
    async def async_stream() -> AsyncIterator[Any]:
        update_ai_context(user_id="u")
        yield user()
        yield user()

    async def main() -> None:
        stepped = async_stream()
        users.extend([await asyncio.create_task(anext(stepped)) for _ in range(2)])  # type: ignore[arg-type]

    asyncio.run(main())
    assert users == ["u"] * 4


def test_a_task_that_a_generator_starts_sets_late_values_for_itself_alone() -> None:
    @ai_context(feature="consumer")
    async def consume() -> AsyncIterator[Any]:
        async def handle(number: int) -> Any:
            update_ai_context(user_id=number)
            await asyncio.sleep(0)
            return user()

        yield await asyncio.gather(*(handle(number) for number in range(5)))
        yield user()

    async def main() -> list[Any]:
        return [each async for each in consume()]

    assert asyncio.run(main()) == [["0", "1", "2", "3", "4"], None]


@pytest.mark.parametrize("name", ["groups", "properties"])
def test_what_is_no_mapping_is_one_clear_error(name: str) -> None:
    with pytest.raises(TypeError, match="are mappings"):
        ai_context(**{name: "acme"})  # type: ignore[arg-type]


@pytest.mark.parametrize("flags", ["beta", ["beta"], 1])
def test_what_holds_no_flags_is_one_clear_error(flags: Any) -> None:
    with pytest.raises(TypeError, match="flags is a mapping"):
        ai_context(flags=flags)


def test_outside_of_any_context_late_words_are_refused_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert [update_ai_context(user_id="u"), update_ai_context(user_id="u")] == [False, False]
    assert user() is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_late_words_in_a_decorated_function_and_generator_end_with_them() -> None:
    @ai_context(feature="x")
    def ask() -> Any:
        update_ai_context(user_id="u")
        return user()

    @ai_context(feature="x")
    def stream() -> Iterator[Any]:
        update_ai_context(user_id="u")
        yield user()
        yield user()

    assert ask() == "u"
    assert list(stream()) == ["u", "u"]
    left = stream()
    assert next(left) == "u"
    assert user() is None


@pytest.mark.parametrize("function", [ai_context, update_ai_context])
def test_help_shows_the_arguments(function: Callable[..., Any]) -> None:
    shown = inspect.signature(function).parameters
    assert [*shown] == [*ContextFields.__annotations__]
    assert {*ARGUMENTS} == {*shown} - {"groups", "properties", "flags"}
    assert {each.kind for each in shown.values()} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("function", [ai_context, update_ai_context])
def test_an_unknown_argument_is_rejected(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"_context\(\) got an unexpected keyword argument 'featur'"):
        function(featur="x")


# --- threads and tasks ---


def test_a_pool_of_threads_knows_what_its_caller_knows_and_keeps_nothing() -> None:
    with ContextThreadPoolExecutor(max_workers=1) as pool:
        with ai_context(user_id="u"):
            assert pool.submit(user).result() == "u"
            assert list(pool.map(lambda _: user(), range(3))) == ["u"] * 3
        assert pool.submit(user).result() is None


@pytest.mark.parametrize("backend", ["asyncio"])
def test_anyio_tasks_and_threads_have_the_context(backend: str) -> None:
    users: list[Any] = []

    async def note() -> None:
        users.append(user())
        users.append(await anyio.to_thread.run_sync(user))

    async def main() -> None:
        with ai_context(user_id="u"):
            async with anyio.create_task_group() as group:
                group.start_soon(note)
                group.start_soon(note)

    anyio.run(main, backend=backend)
    assert users == ["u"] * 4


def test_a_thousand_interleaved_requests_never_see_another_ones_user(inbox: Inbox) -> None:
    """Tasks, threads, generators left early and late values, all at once; each call names its own request."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(PostHogSpanProcessor(api_key="phc_test", endpoint=inbox.url, timeout=60))
    tracer = provider.get_tracer("tests")
    pool = ContextThreadPoolExecutor(max_workers=16)
    dice = random.Random(7)

    def call(number: int) -> None:
        tracer.start_span("chat", attributes={**CHAT, "gen_ai.response.id": f"r{number}"}).end()

    @ai_context(feature="stream")
    async def chunks(number: int) -> AsyncIterator[int]:
        for each in range(5):
            call(number)
            await asyncio.sleep(0)
            yield each

    async def request(number: int, pauses: int) -> None:
        with ai_context(feature="x"):
            for _ in range(pauses):
                await asyncio.sleep(0)
            update_ai_context(user_id=f"u{number}", groups={"company": f"c{number}"})
            call(number)
            await asyncio.get_running_loop().run_in_executor(pool, call, number)
            async for each in chunks(number):
                if each == number % 4:
                    break
            call(number)

    async def main() -> None:
        await asyncio.gather(*(request(number, dice.randrange(9)) for number in range(1000)))

    asyncio.run(main())
    pool.shutdown()
    assert provider.force_flush(120_000)
    events = inbox.events("$ai_generation")
    assert len(events) == sum(3 + number % 4 + 1 for number in range(1000))
    for event in events:
        number = event["properties"]["$ai_completion_id"][1:]
        assert event["distinct_id"] == f"u{number}"
        assert event["properties"]["$groups"] == {"company": f"c{number}"}
    provider.shutdown()


def test_a_thousand_requests_on_few_threads_never_see_another_ones_user() -> None:
    wrong: list[Any] = []

    def worker(first: int) -> None:
        for number in range(first, 1000, 8):
            if user() is not None:
                wrong.append(user())
            with ai_context(feature="x"):
                if number % 3:
                    update_ai_context(user_id=number)
                current = user()
                if current != (str(number) if number % 3 else None):
                    wrong.append((number, current))

    threads = [threading.Thread(target=worker, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- feature flags ---


def test_flags_of_the_posthog_package_are_read_without_reporting_that_they_were() -> None:
    with _flag_server({"new-model": "variant-a", "beta": True, "off": False}) as (host, paths):
        client = posthog.Posthog("phc_test", host=host, flush_interval=0.01)
        with ai_context(flags=client.evaluate_flags("u")):
            assert current_attributes() == {
                "posthog.flag.new-model": "variant-a",
                "posthog.flag.beta": True,
                "posthog.flag.off": False,
            }
        client.shutdown()
    assert {path.partition("?")[0] for path in paths} == {"/flags/"}


@contextlib.contextmanager
def _flag_server(variants: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """PostHog's flags endpoint, and the paths requested of it."""
    paths: list[str] = []
    flags = {
        key: {"key": key, "enabled": bool(value), "variant": value if isinstance(value, str) else None}
        for key, value in variants.items()
    }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            paths.append(self.path)
            body = json.dumps({"flags": flags, "errorsWhileComputingFlags": False}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()
        thread.join()


# --- baggage ---


def test_baggage_carries_what_is_named_on_both_sides_and_nothing_else(attach: Attach) -> None:
    sender: Any = attach(baggage_send="user_id,feature,group.company")
    with ai_context(user_id="u", feature="x", chat_id="c", groups={"company": "acme", "team": "red"}):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
    assert sender is not None
    assert "posthog.chat_id" not in carrier["baggage"]
    assert "team" not in carrier["baggage"]
    receiver: Any = attach(baggage_accept="user_id,group.company,chat_id")
    receiver.start_span("chat", context=propagate.extract(carrier), attributes=CHAT).end()
    attributes = receiver.exported()[-1].attributes
    assert (attributes["posthog.distinct_id"], attributes["posthog.group.company"]) == ("u", "acme")
    assert "posthog.feature" not in attributes


def test_a_flag_is_the_same_variant_on_the_other_side(attach: Attach) -> None:
    tracer: Any = attach(baggage_send="flag.on,flag.model", baggage_accept="flag.on,flag.model")
    with ai_context(flags={"on": True, "model": "small"}):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
    tracer.start_span("chat", context=propagate.extract(carrier), attributes=CHAT).end()
    attributes = tracer.exported()[-1].attributes
    assert (attributes["posthog.flag.on"], attributes["posthog.flag.model"]) == (True, "small")


def test_baggage_is_neither_sent_nor_accepted_unless_asked_for(attach: Attach) -> None:
    tracer: Any = attach()
    with ai_context(user_id="u"):
        assert baggage.get_all() == {}
    context = baggage.set_baggage("posthog.distinct_id", "mallory")
    tracer.start_span("chat", context=context, attributes=CHAT).end()
    assert "posthog.distinct_id" not in tracer.exported()[-1].attributes


def test_values_of_the_own_service_win_over_baggage(attach: Attach) -> None:
    tracer: Any = attach(baggage_accept="user_id")
    token = otel_context.attach(baggage.set_baggage("posthog.distinct_id", "far"))
    with ai_context(user_id="near"):
        tracer.start_span("chat", attributes=CHAT).end()
    otel_context.detach(token)
    assert tracer.exported()[-1].attributes["posthog.distinct_id"] == "near"


def test_a_user_in_other_words_wins_over_baggage(attach: Attach) -> None:
    tracer: Any = attach(baggage_accept="user_id")
    token = otel_context.attach(baggage.set_baggage("posthog.distinct_id", "mallory"))
    with tracer.start_as_current_span("GET /", attributes={"user.id": "alice"}):
        tracer.start_span("chat", attributes=CHAT).end()
    otel_context.detach(token)
    attributes = tracer.exported()[0].attributes
    assert "posthog.distinct_id" not in attributes
    assert attributes["user.id"] == "alice"


@pytest.mark.parametrize("value", ["", "x" * 2000])
def test_empty_and_endless_baggage_is_not_believed(attach: Attach, value: str) -> None:
    tracer: Any = attach(baggage_accept="user_id")
    context = baggage.set_baggage("posthog.distinct_id", value)
    tracer.start_span("chat", context=context, attributes=CHAT).end()
    assert "posthog.distinct_id" not in tracer.exported()[-1].attributes


# --- features by rules ---

RULES = {"http.route": {"/memes/*": "meme", "/chat/{id}": "chat"}, "code.function.name": {"*": "{}"}}


@pytest.mark.parametrize(
    ("above", "feature"),
    [
        ({"http.route": "/memes/{id}"}, "meme"),
        ({"http.route": "/other"}, None),
        ({"http.route": "/other", "code.function.name": "app.tldr"}, "app.tldr"),
        ({"http.route": "/memes/1", "posthog.feature": "said"}, "said"),
        ({}, None),
    ],
)
def test_a_feature_comes_from_what_is_above(
    attach: Attach, above: dict[str, str], feature: str | None
) -> None:
    tracer: Any = attach(features=RULES)
    with (
        tracer.start_as_current_span("GET", attributes=above),
        tracer.start_as_current_span("middleware"),
    ):
        tracer.start_span("chat", attributes=CHAT).end()
    assert tracer.exported()[0].attributes.get("posthog.feature") == feature


def test_values_of_ai_context_win_over_rules(attach: Attach) -> None:
    tracer: Any = attach(features=RULES)
    with (
        ai_context(feature="said"),
        tracer.start_as_current_span("GET", attributes={"http.route": "/memes/1"}),
    ):
        tracer.start_span("chat", attributes=CHAT).end()
    assert tracer.exported()[0].attributes["posthog.feature"] == "said"


def test_an_exporter_alone_finds_the_feature_within_a_batch(inbox: Inbox) -> None:
    exporter = PostHogSpanExporter(api_key="phc_test", endpoint=inbox.url, features=RULES)
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracer = provider.get_tracer("tests")
    with tracer.start_as_current_span("GET", attributes={"http.route": "/memes/1"}):
        tracer.start_span("chat", attributes=CHAT).end()
    exporter.export(spans.get_finished_spans())
    [event] = inbox.events("$ai_generation")
    assert event["properties"]["feature"] == "meme"
    exporter.shutdown()
