"""Log records of the coding CLIs become the calls, tool runs and prompts that they are.

A record with the id of a span stands below that span, and `traces` counts the call once if the span shows it
as well; prompts and tool runs are left to the spans. Without ids, a trace is a prompt of a session, or the
session if its prompts have no ids.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from otel_posthog.conversion.context_attributes import PARENT_ID, inherited
from otel_posthog.conversion.spans.cli_names import (
    CLAUDE_CODE,
    CODEX,
    GEMINI_CLI,
    MODEL,
    QWEN_CODE,
    USAGE,
    Cli,
)
from otel_posthog.conversion.spans.log_record import DETAILS_EVENT, LogRecord, digest
from otel_posthog.conversion.spans.log_views import MS, duration_ns, number_of, time_of, view_of_record
from otel_posthog.conversion.spans.span_view import Attributes, SpanView

__all__ = ["CLI_EVENTS", "OWN_SCOPES", "batch_of"]

_SAME_START_MS = 250
"""A request's own record is written just before it is sent."""

OWN_SCOPES = ("gemini-cli", "qwen-code")
"""Scopes that write the conventions' event beside their own record of the same call."""


CLAUDE_ANSWERS = ("claude_code.api_response_body", "claude_code.assistant_response")
"""Events with the answer to a request: all its blocks if bodies are logged, or its text."""


class Batch(NamedTuple):
    """The records of one request that add to others; each is found without a search."""

    questions: dict[tuple[str, str], list[tuple[int, str]]]
    """The times and texts of Gemini CLI's requests, by session and prompt, in order."""
    details: dict[tuple[str, str], LogRecord]
    """The conventions' events that Gemini CLI writes, by session and time."""
    answers: dict[str, list[LogRecord]]
    """The `CLAUDE_ANSWERS` of Claude Code, by the id of their request."""
    began: dict[str, int]
    """The beginning of each request of Codex that has not ended, by conversation."""


def batch_of(records: Iterable[LogRecord]) -> Batch:
    """Return the batch of records that are in order of time."""
    batch = Batch({}, {}, {}, {})
    for record in records:
        held = record.attributes
        if isinstance(held.get("request_text"), str):
            batch.questions.setdefault(_prompt_key(held), []).append((time_of(record), held["request_text"]))
        elif record.event == DETAILS_EVENT and (record.scope or "").startswith(OWN_SCOPES):
            batch.details[_moment_key(held)] = record
        elif record.event in CLAUDE_ANSWERS and len(
            answers := batch.answers.setdefault(str(held.get("request_id")), [])
        ) < len(CLAUDE_ANSWERS):
            answers.append(record)
    return batch


def _prompt_key(attributes: Attributes) -> tuple[str, str]:
    return str(attributes.get("session.id")), str(attributes.get("prompt_id"))


def _moment_key(attributes: Attributes) -> tuple[str, str]:
    return str(attributes.get("session.id")), str(attributes.get("event.timestamp"))


def _call(cli: Cli, record: LogRecord, batch: Batch) -> SpanView | None:
    return _call_view(cli, record, batch)


def _failed_call(cli: Cli, record: LogRecord, batch: Batch) -> SpanView | None:
    return _call_view(cli, record, batch, failed=True)


def _call_view(
    cli: Cli, record: LogRecord, batch: Batch, *, failed: bool = False, start_ns: int | None = None
) -> SpanView:
    attributes = {
        "gen_ai.operation.name": "chat",
        **_provider(cli, record),
        **_renamed(cli.names, record),
        **_of_gemini(cli, record, batch),
        **_of_claude(record, batch),
    }
    if failed:
        attributes |= _failure(record.attributes)
        attempt = number_of(record.attributes.get("attempt"))
        if attempt is not None:
            attributes["posthog.retry.count"] = max(int(attempt) - 1, 0)
    return _cli_view(cli, record, attributes, failed=failed, start_ns=start_ns)


def _provider(cli: Cli, record: LogRecord) -> Attributes:
    provider = "gcp.vertex_ai" if record.attributes.get("auth_type") == "vertex-ai" else cli.provider
    return {} if provider is None else {"gen_ai.provider.name": provider}


def _codex_stream(cli: Cli, record: LogRecord, batch: Batch) -> SpanView | None:
    """Return the call that a stream's end reports; its counts come in a record of their own."""
    kind, attributes = record.attributes.get("event.kind"), record.attributes
    session = str(attributes.get(cli.session))
    if kind == "response.completed" and "input_token_count" in attributes:
        return _call_view(cli, record, batch, start_ns=batch.began.pop(session, None))
    if "error.message" not in attributes:
        return None
    # A response that failed, one whose end cannot be read, or a stream that broke off.
    if (
        kind is None
        or kind == "response.failed"
        or (kind == "response.completed" and "duration_ms" not in attributes)
    ):
        return _call_view(cli, record, batch, failed=True, start_ns=batch.began.pop(session, None))
    return None


_MODEL_ENDPOINTS = ("responses", "completions", "messages", "unknown")


def _codex_request(cli: Cli, record: LogRecord, batch: Batch) -> SpanView | None:
    """Return a request that was rejected; the end of its stream reports one that was accepted."""
    attributes = record.attributes
    endpoint = attributes.get("endpoint")
    if isinstance(endpoint, str) and not any(word in endpoint for word in _MODEL_ENDPOINTS):
        return None
    if _status(attributes) < _FIRST_ERROR and not attributes.get("error.message"):
        batch.began[str(attributes.get(cli.session))] = time_of(record) - duration_ns(attributes)
        return None
    return _call_view(cli, record, batch, failed=True)


_FIRST_ERROR = 400


def _tool_run(cli: Cli, record: LogRecord, _: Batch) -> SpanView | None:
    if record.span_id:
        return None
    attributes = {"gen_ai.operation.name": "execute_tool", **_renamed(cli.tool, record)}
    failed = str(record.attributes.get("success")).lower() == "false"
    if failed:
        attributes |= _failure(record.attributes)
    attributes |= _person(cli, record)
    return _cli_view(cli, record, attributes, failed=failed)


def _prompt(cli: Cli, record: LogRecord, _: Batch) -> SpanView | None:
    """Return the prompt as the head of its trace; as a task of the session if prompts have no ids."""
    if record.span_id:
        return None
    is_head = _prompt_id(cli, record) is not None and not record.trace_id
    attributes: Attributes = {
        "gen_ai.operation.name": "invoke_agent" if is_head else "agent_step",
        "gen_ai.agent.name": cli.name,
        **_person(cli, record),
    }
    prompt = record.attributes.get("prompt")
    if _is_shown(prompt):
        attributes["gen_ai.input.messages"] = [
            {"role": "user", "parts": [{"type": "text", "content": prompt}]}
        ]
    elif not is_head:
        return None
    view = _cli_view(cli, record, attributes)
    if not is_head:
        return view
    return view._replace(span_id=_head_id(cli, record), parent_id=None, end_ns=None)


_Read = Callable[[Cli, LogRecord, Batch], "SpanView | None"]
_OF_GEMINI: Mapping[str, _Read] = {
    "api_response": _call,
    "api_error": _failed_call,
    "tool_call": _tool_run,
    "user_prompt": _prompt,
}
_CLIS: tuple[tuple[str, Cli, Mapping[str, _Read]], ...] = (
    (
        "claude_code.",
        CLAUDE_CODE,
        {"api_request": _call, "api_error": _failed_call, "tool_result": _tool_run, "user_prompt": _prompt},
    ),
    (
        "codex.",
        CODEX,
        {
            "sse_event": _codex_stream,
            "api_request": _codex_request,
            "websocket_request": _codex_request,
            "tool_result": _tool_run,
            "user_prompt": _prompt,
        },
    ),
    ("gemini_cli.", GEMINI_CLI, _OF_GEMINI),
    ("qwen-code.", QWEN_CODE, _OF_GEMINI),
)
CLI_EVENTS: Mapping[str, tuple[Cli, _Read]] = {
    prefix + name: (cli, read) for prefix, cli, reads in _CLIS for name, read in reads.items()
}
"""The events that are read, each with its CLI and reader."""


# --- the attributes of a CLI's record ---


def _renamed(names: Mapping[str, str], record: LogRecord) -> Attributes:
    renamed: Attributes = {}
    for name, convention in names.items():
        value = record.attributes.get(name)
        if value is not None and value != "":
            renamed.setdefault(convention, value)
    return renamed


def _person(cli: Cli, record: LogRecord) -> Attributes:
    return {name: value for name, value in _renamed(cli.names, record).items() if name == "user.id"}


def _failure(attributes: Attributes) -> Attributes:
    failure: Attributes = {}
    for convention, names in _FAILURE.items():
        value = next((attributes[name] for name in names if attributes.get(name)), None)
        if value is not None:
            failure[convention] = value
    return failure


_STATUS_NAMES = ("http.response.status_code", "http.status_code", "status_code")
_FAILURE = {"error.type": ("error.type", "error_type"), "http.response.status_code": _STATUS_NAMES}


def _status(attributes: Attributes) -> int:
    statuses = (number_of(attributes.get(name)) for name in _STATUS_NAMES)
    return int(next((status for status in statuses if status is not None), 0))


def _of_gemini(cli: Cli, record: LogRecord, batch: Batch) -> Attributes:
    """Return what is peculiar to Gemini CLI: counts that are parts, and payloads as JSON texts."""
    if cli.prompt != GEMINI_CLI.prompt:
        return {}
    held = record.attributes
    attributes: Attributes = {}
    for name, parts in _GEMINI_COUNTS.items():  # thoughts are output, what tools put into the prompt is input
        counts = [count for part in parts if (count := number_of(held.get(part))) is not None]
        if counts:
            attributes[USAGE + name] = int(sum(counts))
    question = _question_of(record, batch)
    if question is not None:
        attributes["gen_ai.input.messages"] = question
    if output := _output_of(held.get("response_text")):
        attributes["gen_ai.output.messages"] = output
    details = batch.details.get(_moment_key(held)) if "event.timestamp" in held else None
    if details is not None:
        attributes |= {
            name: value
            for name, value in details.attributes.items()
            if name.startswith(_FROM_DETAILS) and name != MODEL and value is not None
        }
    return attributes


_GEMINI_COUNTS = {
    "input_tokens": ("input_token_count", "tool_token_count"),
    "output_tokens": ("output_token_count", "thoughts_token_count"),
}
_FROM_DETAILS = (
    *("gen_ai.input.", "gen_ai.output.", "gen_ai.system_instructions", "gen_ai.request."),
    *("gen_ai.response.id", "server."),
)


def _question_of(record: LogRecord, batch: Batch) -> str | None:
    """Return the text of the request that began with this call, if there is exactly one."""
    began = time_of(record) - duration_ns(record.attributes)
    questions = batch.questions.get(_prompt_key(record.attributes), [])
    first = bisect_left(questions, (began - _SAME_START_MS * MS, ""))
    end = bisect_left(questions, (began + _SAME_START_MS * MS + 1, ""))
    return questions[first][1] if end - first == 1 else None


def _of_claude(record: LogRecord, batch: Batch) -> Attributes:
    """Return the answer to a request, if Claude Code logs answers and one is in the same request."""
    request_id = record.attributes.get("request_id")
    if not request_id:
        return {}
    answers = [answer.attributes for answer in batch.answers.get(str(request_id), ())]
    for answer in answers:
        body = _parsed(answer.get("body"))
        blocks = body.get("content") if isinstance(body, dict) else None
        if isinstance(blocks, list) and blocks:
            return {"gen_ai.output.messages": [{"role": "assistant", "content": blocks}]}
    for answer in answers:
        if _is_shown(answer.get("response")):
            part = {"type": "text", "content": answer["response"]}
            return {"gen_ai.output.messages": [{"role": "assistant", "parts": [part]}]}
    return {}


def _is_shown(content: Any) -> bool:
    """Whether it is a text, and none that stands for a hidden one."""
    return isinstance(content, str) and content.strip("<>[]") not in ("", "REDACTED")


def _parsed(text: Any) -> Any:
    """Return the value of a JSON text; None of any other, such as one that was cut at a limit."""
    try:
        return orjson.loads(text) if isinstance(text, str) else None
    except orjson.JSONDecodeError:
        return None


def _output_of(answer: Any) -> list[Attributes]:
    """Return the answer out of a response, or the pieces of a streamed one, as one message."""
    responses = _parsed(answer)
    parts: list[Any] = []
    for response in responses if isinstance(responses, list) else [responses]:
        for part in _parts_of(response):
            if parts and _is_text(part) and _is_text(parts[-1]):
                parts[-1] = {"text": parts[-1]["text"] + part["text"]}
            else:
                parts.append(part)
    return [{"role": "assistant", "parts": parts}] if parts else []


def _parts_of(response: Any) -> list[Any]:
    """Return the parts of the first candidate."""
    candidates = response.get("candidates") if isinstance(response, dict) else None
    first = candidates[0] if isinstance(candidates, list) and candidates else None
    content = first.get("content") if isinstance(first, dict) else None
    parts = content.get("parts") if isinstance(content, dict) else None
    return parts if isinstance(parts, list) else []


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.keys() == {"text"} and isinstance(part["text"], str)


# --- place ---


def _cli_view(
    cli: Cli, record: LogRecord, attributes: Attributes, *, failed: bool = False, start_ns: int | None = None
) -> SpanView:
    attributes = {**inherited(record.attributes), **attributes}
    session = record.attributes.get(cli.session)
    if session:
        attributes["gen_ai.conversation.id"] = str(session)
    view = view_of_record(
        record,
        name=str(attributes.get("gen_ai.tool.name") or record.event),
        attributes=attributes,
        failed=failed,
        scope=(record.scope or cli.name) + cli.scope_suffix,
        start_ns=start_ns,
    )
    if record.trace_id or not (session or _prompt_id(cli, record)):
        return view
    view = view._replace(trace_id=digest(*_group(cli, record), size=16), parent_id=_head_id(cli, record))
    if _prompt_id(cli, record) is None:  # nothing is above it but the session
        attributes[PARENT_ID] = view.trace_id
    return view


def _group(cli: Cli, record: LogRecord) -> tuple[str, str, str]:
    """Return what the records of one trace have in common."""
    return cli.name, str(record.attributes.get(cli.session)), str(_prompt_id(cli, record))


def _head_id(cli: Cli, record: LogRecord) -> str:
    return digest("head", *_group(cli, record))


def _prompt_id(cli: Cli, record: LogRecord) -> Any:
    return (record.attributes.get(cli.prompt) or None) if cli.prompt is not None else None
