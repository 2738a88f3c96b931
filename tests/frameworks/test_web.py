"""The helpers in the real frameworks: feature and user of each request, streams until their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import django
import django.conf
import django.http
import django.test
import django.urls
import fastapi
import fastapi.testclient
import flask
import posthog.contexts  # noqa: F401 - an application that uses it has it
import pytest
from fastapi.responses import StreamingResponse
from posthog.integrations.asgi import PosthogASGIMiddleware
from posthog.integrations.django import PosthogContextMiddleware
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from otel_posthog import update_ai_context
from otel_posthog.frameworks.flask import init_app
from otel_posthog.frameworks.starlette import AiContextMiddleware
from otel_posthog.runtime.log import forget
from otel_posthog.sdk.context.ai_context import current_attributes
from otel_posthog.sdk.context.posthog_sdk import posthog_attributes


def context() -> dict[str, Any]:
    """Feature and user in force, as a view sees them."""
    attributes = current_attributes()
    return {name: attributes.get(f"posthog.{name}") for name in ("feature", "distinct_id")}


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert current_attributes() == {}


# --- FastAPI and Starlette ---


def fastapi_app() -> fastapi.FastAPI:
    app = fastapi.FastAPI()
    app.add_middleware(
        AiContextMiddleware, user=lambda scope: dict(scope["headers"]).get(b"x-user", b"").decode() or None
    )

    @app.get("/replies/{chat}")
    async def smart_reply(chat: str) -> dict[str, Any]:
        return context()

    @app.get("/tldr")
    def tldr() -> dict[str, Any]:
        return context()

    async def authenticate() -> None:
        update_ai_context(user_id="from-a-dependency")

    @app.get("/late", dependencies=[fastapi.Depends(authenticate)])
    async def late() -> dict[str, Any]:
        return context()

    router, inner = fastapi.APIRouter(), fastapi.APIRouter()

    @router.get("/memes/{number}")
    async def meme(number: int) -> dict[str, Any]:
        return context()

    @inner.get("/deep")
    async def deep() -> dict[str, Any]:
        return context()

    router.include_router(inner, prefix="/inner")
    app.include_router(router, prefix="/api")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            for _ in range(2):
                await asyncio.sleep(0)
                yield f"{context()['feature']} "

        return StreamingResponse(body())

    return app


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/replies/7", {"feature": "smart_reply", "distinct_id": "u_1"}),
        ("/tldr", {"feature": "tldr", "distinct_id": "u_1"}),
        ("/api/memes/7", {"feature": "meme", "distinct_id": "u_1"}),
        ("/api/inner/deep", {"feature": "deep", "distinct_id": "u_1"}),
        ("/late", {"feature": "late", "distinct_id": "from-a-dependency"}),
    ],
)
def test_fastapi_views_have_feature_and_user(path: str, expected: dict[str, Any]) -> None:
    with fastapi.testclient.TestClient(fastapi_app()) as client:
        assert client.get(path, headers={"x-user": "u_1"}).json() == expected


def test_fastapi_streams_in_the_context_until_their_end() -> None:
    with fastapi.testclient.TestClient(fastapi_app()) as client:
        assert client.get("/stream").text == "stream stream "


def test_fastapi_answers_what_has_no_route() -> None:
    with fastapi.testclient.TestClient(fastapi_app()) as client:
        assert client.get("/nowhere").status_code == 404


def test_starlette_knows_mounted_routes_and_its_own_users() -> None:
    class User(SimpleUser):
        @property
        def identity(self) -> str:
            return str(self.username)

    class Backend(AuthenticationBackend):
        async def authenticate(self, conn: Any) -> Any:
            user = conn.headers.get("x-user")
            return (AuthCredentials(["authenticated"]), User(user)) if user else None

    async def meme(_: Any) -> JSONResponse:
        return JSONResponse(context())

    app = Starlette(
        routes=[Mount("/api", routes=[Route("/meme", meme)])],
        middleware=[
            Middleware(AuthenticationMiddleware, backend=Backend()),
            Middleware(AiContextMiddleware),
        ],
    )
    with TestClient(app) as client:
        assert client.get("/api/meme", headers={"x-user": "u_2"}).json() == {
            "feature": "meme",
            "distinct_id": "u_2",
        }
        assert client.get("/api/meme").json() == {"feature": "meme", "distinct_id": None}


# --- Flask ---


def flask_client() -> Any:
    app = flask.Flask("chat")
    init_app(app, user=lambda: flask.request.headers.get("x-user"))

    @app.get("/replies/<chat>")
    def smart_reply(chat: str) -> dict[str, Any]:
        return context()

    @app.get("/stream")
    def stream() -> flask.Response:
        def body() -> Iterator[str]:
            yield f"{context()['feature']} "
            yield f"{context()['distinct_id']}"

        return flask.Response(body())

    @app.get("/late")
    def late() -> flask.Response:
        update_ai_context(user_id="later", privacy_mode=True)

        def body() -> Iterator[str]:
            yield f"{context()['distinct_id']} {bool(current_attributes()['posthog.privacy_mode'])}"

        return flask.Response(body())

    @app.get("/broken")
    def broken() -> str:
        raise RuntimeError

    return app.test_client()


def test_flask_views_have_feature_and_user() -> None:
    answer = flask_client().get("/replies/7", headers={"x-user": "u_1"})
    assert answer.json == {"feature": "smart_reply", "distinct_id": "u_1"}


def test_flask_streams_in_the_context_until_their_end() -> None:
    assert flask_client().get("/stream", headers={"x-user": "u_1"}).text == "stream u_1"


def test_late_values_of_a_flask_view_hold_for_its_stream() -> None:
    assert flask_client().get("/late", headers={"x-user": "u_1"}).text == "later True"


@pytest.mark.parametrize(("path", "status"), [("/broken", 500), ("/nowhere", 404)])
def test_flask_leaves_nothing_behind_when_a_request_fails(path: str, status: int) -> None:
    assert flask_client().get(path).status_code == status


# --- functions that fail ---


class _Unnamed:
    def __str__(self) -> str:
        raise LookupError("jane@example.com")


def _no_user() -> _Unnamed:
    return _Unnamed()


def _of_starlette(function: Callable[[], Any]) -> Any:
    async def view(_: Any) -> JSONResponse:
        return JSONResponse(context())

    middleware = Middleware(AiContextMiddleware, user=lambda _: function())
    return TestClient(Starlette(routes=[Route("/", view)], middleware=[middleware])).get("/").json()


def _of_flask(function: Callable[[], Any]) -> Any:
    app = flask.Flask("chat")
    init_app(app, user=function)
    app.get("/")(_flask_view)
    return app.test_client().get("/").json


def _flask_view() -> dict[str, Any]:
    return context()


@pytest.mark.parametrize(("ask", "feature"), [(_of_starlette, "view"), (_of_flask, "_flask_view")])
@pytest.mark.parametrize("user", [lambda: 1 // 0, _no_user])
def test_a_request_is_served_without_a_user_that_cannot_be_read(
    ask: Callable[..., Any], feature: str, user: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    forget()
    assert ask(user) == {"feature": feature, "distinct_id": None}
    [record] = caplog.records
    assert record.getMessage().startswith("The user of a request cannot be read (")
    assert "jane" not in caplog.text


async def _async_user(*_: Any) -> str:
    return "u_1"


def test_a_user_function_that_is_awaited_is_rejected_at_once() -> None:
    with pytest.raises(TypeError, match="user must be a plain function"):
        init_app(flask.Flask("chat"), user=_async_user)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(TypeError, match="user must be a plain function"):
        AiContextMiddleware(lambda *_: None, user=_async_user)  # type: ignore[arg-type]


# --- Django ---


def _current(_: Any) -> django.http.JsonResponse:
    return django.http.JsonResponse(context())


async def _current_async(_: Any) -> django.http.JsonResponse:
    await asyncio.sleep(0)
    return django.http.JsonResponse(context())


def _stream(_: Any) -> django.http.StreamingHttpResponse:
    def body() -> Iterator[str]:
        yield f"{context()['feature']} "
        yield f"{context()['distinct_id']}"

    return django.http.StreamingHttpResponse(body())


async def _stream_async(_: Any) -> django.http.StreamingHttpResponse:
    async def body() -> AsyncIterator[str]:
        for name in ("feature", "distinct_id"):
            await asyncio.sleep(0)
            yield f"{context()[name]} "

    return django.http.StreamingHttpResponse(body())


def _late(_: Any) -> django.http.StreamingHttpResponse:
    update_ai_context(user_id="later", privacy_mode=True)
    return _stream(_)


urlpatterns = [
    django.urls.path("late", _late, name="late"),
    django.urls.path("replies/<chat>", lambda request, chat: _current(request), name="smart_reply"),
    django.urls.path("tldr", _current_async, name="tldr"),
    django.urls.path("stream", _stream, name="stream"),
    django.urls.path("astream", _stream_async, name="astream"),
]


class _User:
    pk = 7

    @property
    def is_authenticated(self) -> bool:
        if _is_away:
            raise ConnectionError("the database is away")
        return True


_is_away = False


def _authenticated(get_response: Callable[..., Any]) -> Callable[..., Any]:
    """Stands for Django's AuthenticationMiddleware, which needs a database."""

    async def auser() -> _User:
        if _is_away:
            raise ConnectionError("the database is away")
        return _User()

    def serve(request: Any) -> Any:
        request.user, request.auser = _User(), auser
        return get_response(request)

    async def serve_async(request: Any) -> Any:
        request.user, request.auser = _User(), auser
        return await get_response(request)

    return serve_async if asyncio.iscoroutinefunction(get_response) else serve


_authenticated.sync_capable = _authenticated.async_capable = True  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def _django() -> None:
    django.conf.settings.configure(
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="x" * 50,
        MIDDLEWARE=[f"{__name__}._authenticated", "otel_posthog.frameworks.django.AiContextMiddleware"],
    )
    django.setup()


@pytest.mark.usefixtures("_django")
@pytest.mark.parametrize(("path", "feature"), [("/replies/1", "smart_reply"), ("/tldr", "tldr")])
@pytest.mark.parametrize("is_async", [False, True])
def test_django_views_have_feature_and_user(path: str, feature: str, is_async: bool) -> None:
    assert _ask(path, is_async).json() == {"feature": feature, "distinct_id": "7"}


def _ask(path: str, is_async: bool) -> Any:
    if not is_async:
        return django.test.Client().get(path)

    async def ask() -> Any:
        return await django.test.AsyncClient().get(path)

    return asyncio.run(ask())


@pytest.mark.usefixtures("_django")
@pytest.mark.parametrize("is_async", [False, True])
def test_django_serves_a_request_whose_user_cannot_be_read(
    is_async: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "_is_away", True)
    assert _ask("/replies/1", is_async).json() == {"feature": "smart_reply", "distinct_id": None}


@pytest.mark.usefixtures("_django")
def test_django_streams_in_the_context_until_their_end() -> None:
    assert b"".join(_ask("/stream", is_async=False).streaming_content) == b"stream 7"


@pytest.mark.usefixtures("_django")
def test_late_values_of_a_django_view_hold_for_its_stream() -> None:
    assert b"".join(_ask("/late", is_async=False).streaming_content) == b"late later"


@pytest.mark.usefixtures("_django")
def test_django_streams_asynchronously_in_the_context_until_their_end() -> None:
    async def read() -> bytes:
        response = await django.test.AsyncClient().get("/astream")
        return b"".join([part async for part in response.streaming_content])

    assert asyncio.run(read()) == b"astream 7 "


@pytest.mark.usefixtures("_django")
def test_django_answers_what_has_no_view() -> None:
    assert _ask("/nowhere", is_async=False).status_code == 404


# --- PostHog's own middleware ---

HEADERS = {"X-PostHog-Session-ID": "replay-1", "X-PostHog-Distinct-ID": "u_9"}


def posthog_context() -> dict[str, Any]:
    """Return the values that a call would take from `posthog`'s context now."""
    attributes = posthog_attributes()
    return {name: attributes.get(f"posthog.{name}") for name in ("session_id", "distinct_id")}


def test_posthogs_asgi_middleware_gives_user_and_replay_session() -> None:
    app = fastapi.FastAPI()
    app.add_middleware(PosthogASGIMiddleware)

    @app.get("/")
    async def home() -> dict[str, Any]:
        return posthog_context()

    @app.get("/thread")
    def thread() -> dict[str, Any]:
        return posthog_context()

    with fastapi.testclient.TestClient(app) as client:
        for path in ("/", "/thread"):
            assert client.get(path, headers=HEADERS).json() == {
                "session_id": "replay-1",
                "distinct_id": "u_9",
            }
    assert posthog_context() == {"session_id": None, "distinct_id": None}


@pytest.mark.usefixtures("_django")
def test_posthogs_django_middleware_gives_user_and_replay_session() -> None:
    contexts: list[dict[str, Any]] = []

    def view(_: Any) -> django.http.HttpResponse:
        contexts.append(posthog_context())
        return django.http.HttpResponse()

    PosthogContextMiddleware(view)(django.test.RequestFactory().get("/", headers=HEADERS))
    assert contexts == [{"session_id": "replay-1", "distinct_id": "u_9"}]
    assert posthog_context() == {"session_id": None, "distinct_id": None}
