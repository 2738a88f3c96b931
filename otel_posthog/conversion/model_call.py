"""The neutral record of one call to a model: it knows neither span attributes nor PostHog properties.

`span_reader` makes these, `events` reads them. A value that was not reported is None or empty, never zero.
Everything here is frozen and slotted: named tuples take a third of the time to build that frozen dataclasses
take. Messages are in the neutral form of the GenAI conventions: a role and parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = [
    "NO_CONTEXT",
    "NO_USAGE",
    "CallContext",
    "CallError",
    "Evaluation",
    "Feedback",
    "Kind",
    "Message",
    "ModelCall",
    "Usage",
    "richness",
]

Message = dict[str, Any]
"""`{"role": str, "parts": [part, ...]}`; a part is `{"type": "text", "content": ...}`, `tool_call`
{id, name, arguments}, `tool_call_response` {id, response}, `reasoning` {content}, `blob` {mime_type,
modality, content}, `uri` {uri, modality}, `file` {file_id}, or an unknown shape as it came."""


class Kind(Enum):
    """The kind of a GenAI span."""

    GENERATION = ("generation", True)
    EMBEDDING = ("embedding", True)
    AGENT = ("agent", False)
    WORKFLOW = ("workflow", False)
    CHAIN = ("chain", False)
    TASK = ("task", False)
    TOOL = ("tool", False)
    RETRIEVAL = ("retrieval", False)
    RERANKER = ("reranker", False)
    GUARDRAIL = ("guardrail", False)
    EVALUATOR = ("evaluator", False)
    SPAN = ("span", False)
    EVALUATION = ("evaluation", False)
    """Only scores of other spans: no event of its own."""

    def __init__(self, label: str, is_model_call: bool) -> None:
        self.label = label
        self.is_model_call = is_model_call
        """Whether the span is a call to a model, which is costed and counted; all others are structure."""


_MONTH_NS = 31 * 86_400 * 10**9
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Usage(NamedTuple):
    """Token counts.

    Input includes its cached and modality parts (unless `cache_exclusive`), output includes its reasoning.
    """

    input: int | None = None
    output: int | None = None
    total: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_exclusive: bool | None = None
    """Whether cache tokens are not part of `input`; None if unknown."""
    reasoning: int | None = None
    input_text: int | None = None
    input_image: int | None = None
    input_audio: int | None = None
    output_text: int | None = None
    output_image: int | None = None
    output_audio: int | None = None
    cache_read_audio: int | None = None
    searches: int | None = None
    """Web searches that the provider made and bills."""

    @property
    def total_tokens(self) -> int | None:
        """The total as reported, else the sum of input and output if both are known."""
        if self.total is None and self.input is not None and self.output is not None:
            return self.input + self.output
        return self.total


class CallError(NamedTuple):
    """The reason why a call failed: class or code, the text (which may quote a prompt), the HTTP status."""

    type: str | None = None
    message: str | None = None
    http_status: int | None = None


class Evaluation(NamedTuple):
    """A score of an answer: a number, a word, or both."""

    name: str
    value: float | None = None
    label: str | None = None
    explanation: str | None = None
    response_id: str | None = None
    """Id of the scored answer if it is another span's."""
    own: bool = False
    """Whether the application itself gave the score, for PostHog; False if a span's attributes hold it."""


class Feedback(NamedTuple):
    """A person's comment on an answer."""

    text: str


class CallContext(NamedTuple):
    """The user, feature, chat and so on of a call, from the span's own and inherited context attributes."""

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
    """Id of the nearest GenAI span above, or of the trace; None if unknown."""
    privacy_mode: bool = False
    groups: Mapping[str, str] = _NOTHING
    properties: Mapping[str, Any] = _NOTHING
    flags: Mapping[str, Any] = _NOTHING
    own: CallContext | None = None
    """The part that the application gave under our own names; None if that is all of it."""


NO_USAGE = Usage()
NO_CONTEXT = CallContext()


def richness(value: Any) -> int:
    """Return how much a value holds: the length of all its texts, without the names they are held under."""
    total, waiting = 0, [value]
    while waiting:  # no recursion: JSON may be nested deeper than Python allows
        item = waiting.pop()
        kind = type(item)
        if kind is dict:
            waiting.extend(item.values())
        elif kind is list or kind is tuple:
            waiting.extend(item)
        elif kind is str or kind is bytes:
            total += len(item)
        elif item is not None:
            total += 1
    return total


class ModelCall(NamedTuple):
    """One call to a model, or one agent, tool, workflow or retrieval around such calls."""

    kind: Kind
    operation: str
    """The convention's operation name (`chat`, `embeddings`, `execute_tool` ...), as reported."""
    name: str
    trace_id: str
    """32 hexadecimal digits, lower case; span and parent ids have 16."""
    span_id: str
    parent_id: str | None
    start_ns: int
    """Nanoseconds since 1970, UTC."""
    end_ns: int | None

    provider: str | None = None
    request_model: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    base_url: str | None = None
    stream: bool | None = None
    time_to_first_token: float | None = None
    """Seconds."""
    finish_reasons: Sequence[str] = ()
    """One a choice, in the convention's words: stop, length, tool_call, content_filter, error."""
    input: Sequence[Message] = ()
    """System instructions are messages with the role `system`, first."""
    output: Sequence[Message] = ()
    embedded: Any = None
    """The embedded text or list of texts."""
    tools: Sequence[Any] = ()
    tools_called: Sequence[str] = ()
    input_state: Any = None
    output_state: Any = None
    cost_usd: float | None = None
    """Cost in US dollars as the provider or a gateway reported it; so are the next two."""
    input_cost_usd: float | None = None
    output_cost_usd: float | None = None
    given_name: str | None = None
    """The name of the tool, agent, workflow or function, as the application's code has it."""
    ended_after: float | None = None
    """Seconds that a stream took, if the span is the record of its end; its request is another span."""
    may_go_on: bool = False
    """Whether the span may be the request of a stream, of which another span records the end."""
    evaluations: Sequence[Evaluation | Feedback] = ()
    linked_traces: Sequence[str] = ()
    """Ids of other traces that the span links to."""

    parameters: Mapping[str, Any] = _NOTHING
    """The request without its messages: `temperature`, `max_tokens`, `top_p` ..."""
    details: Mapping[str, Any] = _NOTHING
    """Values for properties of events only: image counts, web search, thinking level, lengths ..."""
    usage: Usage = NO_USAGE
    error: CallError | None = None
    context: CallContext = NO_CONTEXT
    scope: str | None = None
    resource: Mapping[str, str] = _NOTHING
    """Attributes of the service: `service.name` and the like."""

    @property
    def trace_key(self) -> str:
        """The trace as PostHog groups it: the application's own name for it, else OpenTelemetry's id."""
        return self.context.trace_name or self.trace_id

    @property
    def model(self) -> str | None:
        """The model that answered, else the requested one."""
        return self.response_model or self.request_model

    @property
    def seconds(self) -> float | None:
        """The duration; None without an end, or if the clock was wrong: backwards, or a month ahead."""
        if self.end_ns is None or not 0 <= self.end_ns - self.start_ns <= _MONTH_NS:
            return None
        return (self.end_ns - self.start_ns) / 1e9
