"""Connections of Realtime and Responses over WebSockets, synchronous and asynchronous, also under `beta`.

All messages pass a connection's `send` (or `send_raw`) and `recv_bytes`, whichever way the application reads:
they are observed there, and neither changed nor held up.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from wrapt import register_post_import_hook

from instrumentors.common.call_span import Attributes, logger, read_safely
from instrumentors.openai.realtime import OPERATION
from instrumentors.openai.request import server_attributes
from instrumentors.openai.socket_calls import SocketCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from opentelemetry.trace import Tracer

    from instrumentors.common.patching import Patches

    Args = tuple[Any, ...]
    Kwargs = dict[str, Any]

_MODULES = {
    "openai.resources.realtime.realtime": "Realtime",
    "openai.resources.beta.realtime.realtime": "Realtime",
    "openai.resources.responses.responses": "Responses",
    "openai.resources.beta.responses.responses": "Responses",
}
"""The SDK's modules, of which older versions lack some, and the first word of the names of their classes."""

_in_send: ContextVar[bool] = ContextVar("otel_posthog_openai_send", default=False)


def instrument(patches: Patches, tracer: Tracer, *, content: bool) -> None:
    """Wrap the connections, once their modules are imported."""
    sockets = _Sockets(tracer, content=content)
    for module_name, name in _MODULES.items():
        register_post_import_hook(partial(_wrap_module, patches, sockets, name), module_name)


def _wrap_module(patches: Patches, sockets: _Sockets, name: str, module: ModuleType) -> None:
    for kind in (name, f"Async{name}"):
        asynchronous = kind != name
        connect = partial(sockets.connect, realtime=name == "Realtime")
        enter = sockets.enter_async if asynchronous else sockets.enter
        send = sockets.send_async if asynchronous else sockets.send
        wrappers: tuple[tuple[str, str, Callable[..., Any]], ...] = (
            (kind, "connect", connect),
            (f"{kind}ConnectionManager", "__aenter__" if asynchronous else "__enter__", enter),
            (f"{kind}ConnectionManager", "enter", enter),
            (f"{kind}ConnectionManager", "send", sockets.queue),
            (f"{kind}Connection", "send", send),
            (f"{kind}Connection", "send_raw", send),
            (
                f"{kind}Connection",
                "recv_bytes",
                sockets.receive_async if asynchronous else sockets.receive,
            ),
            (f"{kind}Connection", "close", sockets.close),
        )
        for owner_name, method, wrapper in wrappers if patches.active else ():
            owner = getattr(module, owner_name, None)
            if hasattr(owner, method):
                patches.wrap(owner, method, wrapper)


class _Sockets:
    """The connections, and the wrappers around their methods."""

    def __init__(self, tracer: Tracer, *, content: bool) -> None:
        self.tracer, self.content = tracer, content
        self.managers: WeakKeyDictionary[Any, tuple[Attributes, bool]] = WeakKeyDictionary()
        """The attributes of the calls to be, and whether these are of a Realtime session."""
        self.queued: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()
        """The messages that are sent when the connection is there."""
        self.calls: WeakKeyDictionary[Any, SocketCalls] = WeakKeyDictionary()

    def connect(
        self, wrapped: Callable[..., Any], resource: Any, args: Args, kwargs: Kwargs, *, realtime: bool
    ) -> Any:
        manager = wrapped(*args, **kwargs)
        attributes = read_safely(_connection_attributes, resource._client, kwargs.get("model"))
        attributes["gen_ai.operation.name"] = OPERATION if realtime else "chat"
        self.managers[manager] = attributes, realtime
        return manager

    def queue(self, wrapped: Callable[..., Any], manager: Any, args: Args, kwargs: Kwargs) -> Any:
        result = wrapped(*args, **kwargs)
        self.queued.setdefault(manager, []).append(_message(args, kwargs))
        return result

    def enter(self, wrapped: Callable[..., Any], manager: Any, args: Args, kwargs: Kwargs) -> Any:
        connection = wrapped(*args, **kwargs)
        self._register(manager, connection)
        return connection

    async def enter_async(self, wrapped: Callable[..., Any], manager: Any, args: Args, kwargs: Kwargs) -> Any:
        connection = await wrapped(*args, **kwargs)
        self._register(manager, connection)
        return connection

    def _register(self, manager: Any, connection: Any) -> None:
        try:
            if manager not in self.managers or connection in self.calls:
                return
            attributes, realtime = self.managers[manager]
            calls = SocketCalls(self.tracer, attributes, realtime=realtime, content=self.content)
            self.calls[connection] = calls
            # At the latest when the connection is let go, or at the end of the process.
            weakref.finalize(connection, calls.abandon)
            for event in self.queued.pop(manager, ()):
                calls.add_sent(event)
        except Exception as error:  # noqa: BLE001 - the connection is the user's, followed or not
            logger.debug("otel-posthog could not follow a connection: %s", type(error).__name__)

    @contextmanager
    def _sending(self, connection: Any, args: Args, kwargs: Kwargs) -> Iterator[None]:
        """Follow a message; the SDK may send an event by `send_raw`."""
        calls = None if _in_send.get() else self.calls.get(connection)
        if calls is None:
            yield
            return
        opened = calls.add_sent(_message(args, kwargs))
        token = _in_send.set(True)
        try:
            yield
        except Exception as error:
            calls.fail_call(opened, error)
            raise
        finally:
            _in_send.reset(token)

    def send(self, wrapped: Callable[..., Any], connection: Any, args: Args, kwargs: Kwargs) -> Any:
        with self._sending(connection, args, kwargs):
            return wrapped(*args, **kwargs)

    async def send_async(
        self, wrapped: Callable[..., Any], connection: Any, args: Args, kwargs: Kwargs
    ) -> Any:
        with self._sending(connection, args, kwargs):
            return await wrapped(*args, **kwargs)

    def receive(self, wrapped: Callable[..., Any], connection: Any, args: Args, kwargs: Kwargs) -> Any:
        calls = self.calls.get(connection)
        try:
            data = wrapped(*args, **kwargs)
        except Exception as error:
            if calls is not None and not isinstance(error, TimeoutError):
                calls.fail(error)
            raise
        if calls is not None:
            calls.add_received(data)
        return data

    async def receive_async(
        self, wrapped: Callable[..., Any], connection: Any, args: Args, kwargs: Kwargs
    ) -> Any:
        calls = self.calls.get(connection)
        try:
            data = await wrapped(*args, **kwargs)
        except Exception as error:
            # A reader that was cancelled, or has waited long enough, may read on later.
            if calls is not None and not isinstance(error, TimeoutError):
                calls.fail(error)
            raise
        if calls is not None:
            calls.add_received(data)
        return data

    def close(self, wrapped: Callable[..., Any], connection: Any, args: Args, kwargs: Kwargs) -> Any:
        if (calls := self.calls.get(connection)) is not None:
            calls.abandon()
        return wrapped(*args, **kwargs)


def _message(args: Args, kwargs: Kwargs) -> Any:
    return args[0] if args else next(iter(kwargs.values()), None)


def _connection_attributes(client: Any, model: Any) -> Attributes:
    address = str(getattr(client, "websocket_base_url", None) or client.base_url)
    address = address.replace("ws", "http", 1) if address.startswith("ws") else address
    attributes = dict(server_attributes(address, "Azure" in type(client).__name__))
    return {**attributes, "gen_ai.request.model": model} if isinstance(model, str) else attributes
