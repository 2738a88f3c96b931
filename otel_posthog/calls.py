"""What one call to a model was, in nobody's terms but its own: no span attribute, no PostHog property.

`spans` makes these, `events` reads them. A value that was not reported is None or empty, never zero.
Messages are in the neutral form of the GenAI conventions, `{"role": ..., "parts": [{"type": ...}]}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

__all__ = ["NO_CONTEXT", "NO_USAGE", "CallContext", "CallError", "Kind", "Message", "ModelCall", "Usage"]

Message = dict[str, Any]
"""`{"role": str, "parts": [part, ...]}`; a part is `{"type": "text", "content": ...}`, `tool_call`
{id, name, arguments}, `tool_call_response` {id, response}, `reasoning` {content}, `blob` {mime_type,
modality, content}, `uri` {uri, modality}, `file` {file_id}, or any other shape that was found."""


class Kind(Enum):
    """What a span of interest stands for."""

    GENERATION = "generation"
    EMBEDDING = "embedding"
    AGENT = "agent"
    WORKFLOW = "workflow"
    TOOL = "tool"
    RETRIEVAL = "retrieval"
    SPAN = "span"

    @property
    def is_model_call(self) -> bool:
        """Whether a model was asked: it is costed and counted, all others are structure."""
        return self in _MODEL_CALLS


_MODEL_CALLS = frozenset({Kind.GENERATION, Kind.EMBEDDING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens. Input holds its cached and modality parts (unless `cache_exclusive`), output its reasoning."""

    input: int | None = None
    output: int | None = None
    total: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_exclusive: bool | None = None
    """True: cache tokens are not inside `input`; None: nobody said."""
    reasoning: int | None = None
    input_text: int | None = None
    input_image: int | None = None
    input_audio: int | None = None
    output_text: int | None = None
    output_image: int | None = None
    output_audio: int | None = None
    cache_read_audio: int | None = None
    searches: int | None = None
    """Web searches that the provider made, and bills."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallError:
    """Why a call failed: class or code, the text (which may quote a prompt), the HTTP status."""

    type: str | None = None
    message: str | None = None
    http_status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """Whose call it was and for what: from the span's own context attributes."""

    distinct_id: str | None = None
    feature: str | None = None
    chat_id: str | None = None
    ai_friend_id: str | None = None
    username: str | None = None
    session_id: str | None = None
    """PostHog's replay session (`$session_id`)."""
    conversation_id: str | None = None
    trace_name: str | None = None
    parent_id: str | None = None
    """The nearest span above that PostHog will get; None where nobody worked it out."""
    groups: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)
    privacy_mode: bool = False


NO_USAGE = Usage()
NO_CONTEXT = CallContext()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One call to a model, or one agent, tool, workflow or retrieval around such calls."""

    kind: Kind
    operation: str
    """The convention's operation name (`chat`, `embeddings`, `execute_tool` ...), as reported."""
    name: str
    trace_id: str
    """32 hexadecimal digits, lower case; span and parent ids have 16."""
    span_id: str
    parent_id: str | None = None
    start_ns: int
    """Nanoseconds since 1970, UTC."""
    end_ns: int | None = None

    provider: str | None = None
    request_model: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    base_url: str | None = None
    stream: bool | None = None
    time_to_first_token: float | None = None
    """Seconds."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What the caller asked for besides messages: `temperature`, `max_tokens`, `top_p` ..."""
    usage: Usage = NO_USAGE
    finish_reasons: Sequence[str] = ()
    """One a choice, in the convention's words: stop, length, tool_call, content_filter, error."""
    input: Sequence[Message] = ()
    """System instructions are messages with the role `system`, first."""
    output: Sequence[Message] = ()
    embedded: Any = None
    """What was embedded: a text or a list of texts."""
    tools: Sequence[Any] = ()
    tools_called: Sequence[str] = ()
    input_state: Any = None
    output_state: Any = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the conventions have no word for: image counts, web search, thinking level, lengths ..."""
    error: CallError | None = None
    context: CallContext = NO_CONTEXT
    scope: str | None = None
    scope_version: str | None = None
    resource: Mapping[str, str] = field(default_factory=dict)
    """Which service it was: `service.name` and the like."""
    cost_usd: float | None = None
    """What the provider or a gateway said that the call cost, in US dollars."""

    @property
    def model(self) -> str | None:
        """The model that answered, else the one that was asked."""
        return self.response_model or self.request_model

    @property
    def seconds(self) -> float | None:
        """How long it took; None without an end, or where the clock went backwards."""
        if self.end_ns is None or self.end_ns < self.start_ns:
            return None
        return (self.end_ns - self.start_ns) / 1e9
