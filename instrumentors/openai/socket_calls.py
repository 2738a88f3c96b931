"""The calls of one WebSocket: a span for each response, from the message that asks for it to its last one.

Realtime and Responses speak alike: the application sends `response.create`, the service's events follow. A
response that the service begins by itself, when it hears the end of speech, is a call as well.
"""

from __future__ import annotations

import time
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from threading import RLock
from typing import TYPE_CHECKING, Any

import orjson

from instrumentors.common.call_span import Attributes, CallSpan, is_suppressed, logger, read_safely
from instrumentors.common.message_parts import dumps, text
from instrumentors.openai.fields import get, get_list, request_attributes, response_attributes
from instrumentors.openai.realtime import Conversation, add_transcript, as_dict, realtime_response
from instrumentors.openai.responses import responses_request, responses_response

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_CREATE = "response.create"
_SENT = frozenset({_CREATE, "response.steer", "session.update", "conversation.item.create"})
_AUDIO_SENT = frozenset({"input_audio_buffer.append", "input_audio_buffer.commit"})
_ENDS = frozenset(
    f"response.{end}" for end in ("done", "completed", "failed", "incomplete", "cancelled", "canceled")
)
_WORDS = frozenset(
    f"response.{kind}.delta"
    for kind in ("output_text", "text", "output_audio_transcript", "audio_transcript")
)
_TRANSCRIBED = "conversation.item.input_audio_transcription.completed"
_FIELDS = ("id", "model", "service_tier", "usage", "conversation_id")
_NORMAL_CLOSURES = frozenset({1000, 1001})  # of the WebSocket protocol: closed, going away
_ABNORMAL_CLOSURE = 1006
_OF_OTHERS = ("item", "session", "audio", "previous_item_id", "content_index", "input_audio")
"""Beginnings of the parameter, or code, of an error that concerns another message than `response.create`."""


@dataclass(eq=False)
class SocketCall:
    """One response; it has no span if the application suppressed it."""

    span: CallSpan | None
    items: list[dict[str, Any]]
    """The items of the input, in which transcripts are written down later."""
    body: dict[str, Any]
    event_id: Any = None
    stream_id: Any = None
    response_id: Any = None
    fields: dict[str, Any] = field(default_factory=dict)
    pieces: list[str] = field(default_factory=list)
    transcribed: bool = False


class SocketCalls:
    """The open calls of one connection. Threads may share a connection; a lock keeps its calls apart."""

    def __init__(self, tracer: Tracer, attributes: Attributes, *, realtime: bool, content: bool) -> None:
        self._tracer, self._attributes, self._content = tracer, attributes, content
        self._conversation = Conversation() if realtime else None
        self._read_response = realtime_response if realtime else responses_response
        self._open: list[SocketCall] = []
        """In the order of their beginning; a call has no id until its first event."""
        self._steered: list[Any] = []
        self._sender: Context | None = None
        """The context in which the application sent audio last."""
        self._lock = RLock()

    def add_sent(self, event: Any) -> SocketCall | None:
        """Follow a message before it is sent: JSON text, or an event; return the call that it opened."""
        try:
            with self._lock:
                return self._add_sent(_loads(event) if isinstance(event, (str, bytes)) else event)
        except Exception as error:  # noqa: BLE001 - the message is sent, whatever we make of it
            logger.debug("otel-posthog could not read a message: %s", type(error).__name__)
            return None

    def _add_sent(self, event: Any) -> SocketCall | None:
        kind = get(event, "type")
        if kind in _AUDIO_SENT:
            self._sender = copy_context()
            if kind == "input_audio_buffer.commit" and self._conversation is not None:
                self._conversation.input_ended = time.perf_counter()
        if kind not in _SENT:
            return None
        if kind == _CREATE:
            return self._create(as_dict(event))
        if self._conversation is not None:
            self._conversation.add_sent(kind, event)
        elif isinstance(steered := get(event, "input"), str):
            self._steered.append({"role": "user", "content": steered})
        else:
            self._steered += get_list(steered)
        return None

    def _create(self, event: dict[str, Any]) -> SocketCall:
        if self._conversation is None:
            return self._begin(event, [], event.get("event_id"), event.get("stream_id"))
        response = as_dict(event.get("response"))
        if response.get("input") is not None:
            items = [as_dict(item) for item in get_list(response["input"])]
        elif response.get("conversation") == "none":
            items = [*self._conversation.items]
        else:
            items = self._conversation.take_items()
        return self._begin(response, items, event.get("event_id"))

    def _begin(
        self,
        body: dict[str, Any],
        items: list[dict[str, Any]],
        event_id: Any = None,
        stream_id: Any = None,
        started: float | None = None,
    ) -> SocketCall:
        call = SocketCall(None, items, body, event_id, stream_id)
        self._open.append(call)
        if not is_suppressed():
            request = self._request(call)
            attributes = {**self._attributes, **read_safely(request_attributes, request, None, self._content)}
            attributes |= read_safely(responses_request, request, self._content)
            attributes |= {
                "gen_ai.operation.name": self._attributes["gen_ai.operation.name"],
                "gen_ai.request.stream": True,
            }
            call.span = CallSpan.open(self._tracer, attributes, content=self._content, started=started)
        return call

    def _request(self, call: SocketCall) -> dict[str, Any]:
        if self._conversation is None:
            return call.body
        return self._conversation.request_body(call.body, call.items)

    def add_received(self, data: Any) -> None:
        """Follow a message of the service's; the last one of a response ends its call."""
        try:
            event = _loads(data)
            if isinstance(event, dict):
                with self._lock:
                    self._add_received(str(event.get("type")), event)
        except Exception as error:  # noqa: BLE001 - an unreadable message is still the user's
            logger.debug("otel-posthog could not read a message: %s", type(error).__name__)

    def _add_received(self, kind: str, event: dict[str, Any]) -> None:
        if kind.startswith("response."):
            self._add_response_event(kind, event)
        elif kind == "error":
            self._add_error(event)
        elif kind == _TRANSCRIBED:
            self._add_transcript(event)
        elif self._conversation is not None:
            self._conversation.add_received(kind, event)

    def _add_response_event(self, kind: str, event: dict[str, Any]) -> None:
        response = event.get("response")
        response = response if isinstance(response, dict) else {}
        identifier = response.get("id") or event.get("response_id")
        call = self._find(identifier, event.get("stream_id"))
        if call is None and kind == "response.created":
            call = self._begin_by_service()
            call.response_id = identifier
        if call is None or call.span is None:
            self._forget(call if kind in _ENDS else None)
            return
        call.fields |= {name: value for name in _FIELDS if (value := response.get(name))}
        if kind.endswith(".delta"):
            call.span.note_chunk()
            if kind in _WORDS and call.span.recording:
                call.pieces.append(str(event.get("delta") or ""))
        elif kind in _ENDS:
            status = kind.partition(".")[2]
            self._end(call, response if "status" in response else {**response, "status": status})

    def _find(self, identifier: Any, stream_id: Any) -> SocketCall | None:
        """Return the open call of a response: by its id, by its stream, or the first that has no id yet."""
        for call in self._open if identifier is not None else ():
            if call.response_id == identifier:
                return call
        calls = [call for call in self._open if stream_id is None or call.stream_id in {None, stream_id}]
        waiting = next((call for call in calls if call.response_id is None), None)
        if identifier is None:
            # The smaller events of the Responses API do not name their response.
            return next((call for call in calls if call.response_id is not None), waiting)
        if waiting is not None:
            waiting.response_id = identifier
        return waiting

    def _begin_by_service(self) -> SocketCall:
        """Open the call of a response that nobody asked for by a message."""
        conversation = self._conversation
        if conversation is None:
            steered, self._steered = self._steered, []
            return self._begin({"input": steered}, [])
        started, conversation.input_ended = conversation.input_ended, None
        context = self._sender or copy_context()
        return context.run(self._begin, {}, conversation.take_items(), None, None, started)

    def _add_transcript(self, event: dict[str, Any]) -> None:
        item_id = event.get("item_id")
        for call in self._open:
            if any(item.get("id") == item_id for item in call.items):
                call.transcribed = True
        waiting = self._conversation.items if self._conversation is not None else []
        for item in (*waiting, *(item for call in self._open for item in call.items)):
            if item.get("id") == item_id:
                add_transcript(item, event.get("transcript"))

    def _add_error(self, event: dict[str, Any]) -> None:
        """End the call that an error event is about; most of them are about other messages."""
        error = event["error"] if isinstance(event.get("error"), dict) else event
        call = self._failed_call(error, event.get("stream_id"))
        if call is None:
            return
        attributes = {
            "error.type": str(get(error, "code") or get(error, "type") or "error"),
            "posthog.http.status": event.get("status"),
        }
        self._finish(call, attributes, str(get(error, "message") or ""))

    def _failed_call(self, error: Any, stream_id: Any) -> SocketCall | None:
        event_id = get(error, "event_id") if self._conversation is not None else None
        if event_id is not None:
            return next((call for call in self._open if call.event_id == event_id), None)
        calls = [call for call in self._open if stream_id is None or call.stream_id in {None, stream_id}]
        waiting = next((call for call in calls if call.response_id is None), None)
        if self._conversation is None:
            return waiting or next(iter(calls), None)
        subject = f"{get(error, 'param') or ''}", f"{get(error, 'code') or ''}"
        return None if any(one.startswith(_OF_OTHERS) for one in subject) else waiting

    def _end(self, call: SocketCall, response: dict[str, Any]) -> None:
        # The last response may lack what an earlier one had.
        attributes = {
            **read_safely(response_attributes, call.fields),
            **read_safely(self._read_response, response, self._content),
        }
        description = str(attributes.pop("error.message", ""))
        self._finish(call, attributes, description)

    def _finish(self, call: SocketCall, attributes: Attributes, description: str = "") -> None:
        self._forget(call)
        if call.span is not None:
            call.span.end({**self._known_attributes(call), **attributes}, description)

    def _known_attributes(self, call: SocketCall) -> Attributes:
        """Return the attributes of what came without the last response: words, and transcripts of speech."""
        attributes = read_safely(response_attributes, call.fields)
        if call.pieces and self._content:
            message = {"role": "assistant", "parts": [text("".join(call.pieces))]}
            attributes["gen_ai.output.messages"] = dumps([message])
        if call.transcribed:
            attributes |= read_safely(responses_request, self._request(call), self._content)
        return attributes

    def _forget(self, call: SocketCall | None) -> None:
        if call is not None and call in self._open:
            self._open.remove(call)

    def fail(self, error: Exception) -> None:
        """End the open calls with the connection's error; a normal closure is none."""
        if not hasattr(error, "rcvd"):
            for call in [*self._open]:
                self.fail_call(call, error)
            return
        # By the close frame: to read the code off a closed connection's error gives a warning.
        code = get(error.rcvd, "code") or _ABNORMAL_CLOSURE
        if code in _NORMAL_CLOSURES:
            self.abandon()
            return
        with self._lock:
            for call in [*self._open]:
                attributes = {"error.type": str(int(code))}
                self._finish(call, attributes, str(get(error.rcvd, "reason") or ""))

    def fail_call(self, call: SocketCall | None, error: Exception) -> None:
        """End a call with an error, if it is still open."""
        with self._lock:
            if call in self._open:
                self._forget(call)
                if call is not None and call.span is not None:
                    call.span.fail(error, self._known_attributes(call))

    def abandon(self) -> None:
        """End the open calls: the application left the connection."""
        with self._lock:
            for call in [*self._open]:
                self._finish(call, {})


def _loads(data: Any) -> Any:
    # Speech is most of the traffic, and its messages say nothing that we need.
    if b"input_audio_buffer.append" in (data if isinstance(data, bytes) else data.encode())[:100]:
        return {"type": "input_audio_buffer.append"}
    return orjson.loads(data)
