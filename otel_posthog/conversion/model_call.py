"""What one call to a model was, in nobody's terms but its own: no span attribute, no PostHog property.

`spans` makes these, `events` reads them. A value that was not reported is None or empty, never zero.
Everything here is frozen and slotted: named tuples, which are made in a third of the time that frozen
dataclasses take. Messages are in the neutral form of the GenAI conventions: a role and parts.
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
]

Message = dict[str, Any]
"""`{"role": str, "parts": [part, ...]}`; a part is `{"type": "text", "content": ...}`, `tool_call`
{id, name, arguments}, `tool_call_response` {id, response}, `reasoning` {content}, `blob` {mime_type,
modality, content}, `uri` {uri, modality}, `file` {file_id}, or any other shape that was found."""


class Kind(Enum):
    """What a span of interest stands for."""

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
    """Nothing but scores of other spans: no event of its own."""

    def __init__(self, label: str, is_model_call: bool) -> None:
        self.label = label
        self.is_model_call = is_model_call
        """Whether a model was asked: it is costed and counted, all others are structure."""


_MONTH_NS = 31 * 86_400 * 10**9
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Usage(NamedTuple):
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

    @property
    def total_tokens(self) -> int | None:
        """The total as reported, else the sum of input and output if both are known."""
        if self.total is None and self.input is not None and self.output is not None:
            return self.input + self.output
        return self.total


class CallError(NamedTuple):
    """Why a call failed: class or code, the text (which may quote a prompt), the HTTP status."""

    type: str | None = None
    message: str | None = None
    http_status: int | None = None


class Evaluation(NamedTuple):
    """A score that somebody gave: a number, a word, or both."""

    name: str
    value: float | None = None
    label: str | None = None
    explanation: str | None = None
    response_id: str | None = None
    """Of the answer that was judged, where it is another span's."""
    own: bool = False
    """Whether the application itself gave it, to be read in PostHog, and no span's attribute."""


class Feedback(NamedTuple):
    """What a person said of an answer."""

    text: str


class CallContext(NamedTuple):
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
    privacy_mode: bool = False
    groups: Mapping[str, str] = _NOTHING
    properties: Mapping[str, Any] = _NOTHING
    flags: Mapping[str, Any] = _NOTHING
    own: CallContext | None = None
    """What of it the application said under our names for it, where other metadata of the span said something
    as well; None: all of it."""


NO_USAGE = Usage()
NO_CONTEXT = CallContext()


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
    """What was embedded: a text or a list of texts."""
    tools: Sequence[Any] = ()
    tools_called: Sequence[str] = ()
    input_state: Any = None
    output_state: Any = None
    cost_usd: float | None = None
    """What the provider or a gateway said that the call cost, in US dollars; so for the next two."""
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
    """Ids of other traces that the span says it belongs with."""

    parameters: Mapping[str, Any] = _NOTHING
    """What the caller asked for besides messages: `temperature`, `max_tokens`, `top_p` ..."""
    details: Mapping[str, Any] = _NOTHING
    """What the conventions have no word for: image counts, web search, thinking level, lengths ..."""
    usage: Usage = NO_USAGE
    error: CallError | None = None
    context: CallContext = NO_CONTEXT
    scope: str | None = None
    resource: Mapping[str, str] = _NOTHING
    """Which service it was: `service.name` and the like."""

    @property
    def trace_key(self) -> str:
        """The trace as PostHog groups it: the application's own name for it, else OpenTelemetry's id."""
        return self.context.trace_name or self.trace_id

    @property
    def model(self) -> str | None:
        """The model that answered, else the one that was asked."""
        return self.response_model or self.request_model

    @property
    def seconds(self) -> float | None:
        """How long it took; None without an end, or where the clock was wrong: backwards, or a month on."""
        if self.end_ns is None or not 0 <= self.end_ns - self.start_ns <= _MONTH_NS:
            return None
        return (self.end_ns - self.start_ns) / 1e9
