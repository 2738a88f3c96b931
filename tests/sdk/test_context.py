"""`ai_context`: the attributes of spans that start inside it; nothing of it is left outside."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry import context as otel_context

from otel_posthog import ai_context
from otel_posthog.conversion.context_attributes import inherited
from otel_posthog.sdk.context.ai_context import current_attributes


def feature() -> Any:
    return current_attributes().get("posthog.feature")


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert current_attributes() == {}


def test_every_argument_is_a_span_attribute() -> None:
    with ai_context(
        feature="smart_reply",
        chat_id=7,
        user_id="u",
        username="ada",
        ai_friend_id="luna",
        session_id="s",
        conversation_id="c",
        trace_id="ticket-17",
        groups={"company": "acme"},
        properties={"topic": "cats", "n": 3},
        flags={"new-model": True},
        privacy_mode=True,
    ):
        assert current_attributes() == {
            "posthog.feature": "smart_reply",
            "posthog.chat_id": "7",
            "posthog.distinct_id": "u",
            "posthog.username": "ada",
            "posthog.ai_friend_id": "luna",
            "posthog.session_id": "s",
            "posthog.conversation_id": "c",
            "posthog.trace_id": "ticket-17",
            "posthog.privacy_mode": True,
            "posthog.group.company": "acme",
            "posthog.property.topic": "cats",
            "posthog.property.n": 3,
            "posthog.flag.new-model": True,
        }


def test_an_inner_context_adds_and_overrides_and_goes_away() -> None:
    with ai_context(feature="outer", chat_id="c"):
        with ai_context(feature="inner", user_id="u"):
            assert current_attributes() == {
                "posthog.feature": "inner",
                "posthog.chat_id": "c",
                "posthog.distinct_id": "u",
            }
        assert current_attributes() == {"posthog.feature": "outer", "posthog.chat_id": "c"}


def test_none_sets_nothing() -> None:
    with ai_context(feature="outer"), ai_context(feature=None, properties={"a": None}):
        assert current_attributes() == {"posthog.feature": "outer"}


def test_it_goes_away_with_an_exception() -> None:
    with pytest.raises(KeyError), ai_context(feature="x"):
        raise KeyError


def test_a_function() -> None:
    @ai_context(feature="x")
    def decorated(a: int, *, b: int) -> tuple[Any, int]:
        return feature(), a + b

    assert decorated(1, b=2) == ("x", 3)
    assert decorated.__name__ == "decorated"


def test_a_recursive_function() -> None:
    @ai_context(feature="x")
    def down(n: int) -> list[Any]:
        return [feature()] if n == 0 else [*down(n - 1), feature()]

    assert down(3) == ["x"] * 4


def test_a_coroutine_and_tasks_that_run_at_once() -> None:
    async def ask(user: str) -> list[Any]:
        with ai_context(user_id=user):
            seen = []
            for _ in range(20):
                await asyncio.sleep(0)
                seen.append(current_attributes()["posthog.distinct_id"])
            return seen

    @ai_context(feature="x")
    async def decorated() -> Any:
        await asyncio.sleep(0)
        return feature(), await asyncio.gather(*(ask(str(n)) for n in range(50)))

    feature_inside, users = asyncio.run(decorated())
    assert feature_inside == "x"
    assert users == [[str(n)] * 20 for n in range(50)]


def test_a_generator_sees_it_and_its_driver_does_not() -> None:
    @ai_context(feature="x")
    def numbers() -> Iterator[Any]:
        yield feature()
        yield feature()

    seen = [(inside, feature()) for inside in numbers()]
    assert seen == [("x", None), ("x", None)]


def test_a_generator_that_is_left_early_is_closed_inside_it() -> None:
    closed: list[Any] = []

    @ai_context(feature="x")
    def numbers() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(feature())

    generator = numbers()
    next(generator)
    del generator
    assert closed == ["x"]


def test_a_generator_gets_what_is_sent_and_thrown_and_returns_what_it_returns() -> None:
    @ai_context(feature="x")
    def echo() -> Any:
        got = yield "first"
        try:
            yield got
        except KeyError:
            yield feature()
        return "end"

    generator = echo()
    assert next(generator) == "first"
    assert generator.send("sent") == "sent"
    assert generator.throw(KeyError("thrown")) == "x"
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "end"


def test_an_async_generator_sees_it_and_its_driver_does_not() -> None:
    closed: list[Any] = []

    @ai_context(feature="x")
    async def numbers() -> AsyncIterator[Any]:
        try:
            for _ in range(3):
                await asyncio.sleep(0)
                yield feature()
        finally:
            closed.append(feature())

    async def drive() -> list[Any]:
        seen = []
        generator = numbers()
        async for inside in generator:
            seen.append((inside, feature()))
            if len(seen) == 2:
                break
        await generator.aclose()  # type: ignore[attr-defined]  # an async generator, declared as an iterator
        return seen

    assert asyncio.run(drive()) == [("x", None), ("x", None)]
    assert closed == ["x"]


def test_a_context_manager_in_a_generator_that_another_context_closes_logs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def inside() -> Iterator[Any]:
        with ai_context(feature="x"):
            yield feature()

    generator: Any = inside()
    assert contextvars.copy_context().run(next, generator) == "x"
    generator.close()
    assert caplog.records == []


def test_a_thread_has_it_when_the_context_is_copied_and_else_not() -> None:
    seen: list[Any] = []
    with ai_context(feature="x"):
        copied = contextvars.copy_context()
        for target in (lambda: seen.append(feature()), lambda: copied.run(lambda: seen.append(feature()))):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
    assert seen == [None, "x"]


def test_an_explicit_opentelemetry_context_has_it() -> None:
    with ai_context(feature="x"):
        kept = otel_context.get_current()
    assert current_attributes(kept) == {"posthog.feature": "x"}


def test_a_span_inherits_context_and_nothing_else() -> None:
    own = {
        "posthog.feature": "x",
        "user.id": "u",
        "posthog.group.company": "acme",
        "posthog.image.count": 3,
        "posthog.parent_id": "p",
        "gen_ai.request.model": "m",
        "http.route": "/",
    }
    assert inherited(own) == {
        "posthog.feature": "x",
        "user.id": "u",
        "posthog.group.company": "acme",
    }


def test_one_object_in_overlapping_tasks_mixes_nothing() -> None:
    shared = ai_context(feature="x")

    async def ask(steps: int) -> Any:
        with shared:
            for _ in range(steps):
                await asyncio.sleep(0)
            inside = feature()
        return inside, feature()

    async def overlapping() -> Any:
        return await asyncio.gather(ask(3), ask(1), ask(2))

    assert asyncio.run(overlapping()) == [("x", None)] * 3


def test_an_exit_in_another_task_than_the_entry_leaves_that_one_alone() -> None:
    context = ai_context(feature="x")
    contextvars.copy_context().run(context.__enter__)
    with ai_context(feature="y"):
        context.__exit__(None, None, None)
        assert feature() == "y"


def test_stacked_decorators_both_count() -> None:
    def chat() -> Any:
        return current_attributes().get("posthog.chat_id")

    @ai_context(feature="x")
    @ai_context(chat_id="c")
    def numbers() -> Iterator[Any]:
        yield feature(), chat()

    @ai_context(feature="x")
    @ai_context(chat_id="c")
    async def asynchronous() -> AsyncIterator[Any]:
        yield feature(), chat()

    @ai_context(feature="x")
    @ai_context(chat_id="c")
    async def coroutine() -> Any:
        return feature(), chat()

    async def drive() -> Any:
        return [*[inside async for inside in asynchronous()], await coroutine()]

    assert list(numbers()) == [("x", "c")]
    assert asyncio.run(drive()) == [("x", "c"), ("x", "c")]
    assert inspect.isgeneratorfunction(numbers)
    assert inspect.isasyncgenfunction(asynchronous)
    assert inspect.iscoroutinefunction(coroutine)


def test_coroutines_and_generators_that_a_callable_returns_run_inside_it() -> None:
    class Asks:
        async def __call__(self) -> Any:
            await asyncio.sleep(0)
            return feature()

    assert asyncio.run(ai_context(feature="x")(Asks())()) == "x"
    assert list(ai_context(feature="x")(lambda: (feature() for _ in range(2)))()) == ["x", "x"]


def test_only_callables_are_decorated() -> None:
    wrong: Any = "a function's name"
    with pytest.raises(TypeError, match="decorates functions"):
        ai_context(feature="x")(wrong)
