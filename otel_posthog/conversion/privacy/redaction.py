"""Redaction of texts: provider keys always, personal data and the application's own patterns if it opts in.

`redactor` builds one function over text. `redact_call` and `redact_content` apply it to what somebody wrote,
and never to values that PostHog counts or groups by: ids, models and tokens stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import orjson

from otel_posthog.conversion.model_call import Evaluation, Feedback, Message, ModelCall
from otel_posthog.conversion.privacy.credentials import may_hold_key, safe_url, without_keys
from otel_posthog.conversion.privacy.json_redaction import is_remote, redact_json, redact_tool
from otel_posthog.conversion.privacy.media import MIN_BASE64
from otel_posthog.conversion.privacy.personal_data import KINDS, Redactor, redactors

__all__ = [
    "KINDS",
    "Redactor",
    "may_hold_credentials",
    "redact_call",
    "redact_content",
    "redact_json",
    "redactor",
]

_DATA = re.compile(r"(;base64,[A-Za-z0-9+/=_%\\-]{512,})")
_BASE64 = re.compile(r"[A-Za-z0-9+/=_-]+")


def redactor(kinds: Iterable[str] = (), patterns: Mapping[str, str] | None = None) -> Redactor:
    """Return a function that replaces provider keys, then the kinds, then own patterns by `[NAME]`.

    `patterns` are regular expressions by name. The application answers for the time that they take: one such
    as `(a+)+$` may take exponentially long.

    Raises:
        ValueError: a kind is unknown, or a pattern does not compile; the text names it.
    """
    chosen = frozenset(kinds)
    if unknown := chosen - set(KINDS):
        raise ValueError(f"{min(unknown)} is no kind that can be redacted: {', '.join(KINDS)}")
    steps: list[Redactor] = [
        without_keys,
        *redactors(chosen),  # before own patterns, which may match in the middle of a number with a checksum
        *(partial(_replace_pattern, *each) for each in _compiled(patterns or {})),
    ]

    def redact_plain(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    def redact(text: str) -> str:
        return _redact_escaped(redact, redact_plain, text) if "\\" in text else redact_plain(text)

    return partial(_redact_around_data, redact)


_ESCAPE = re.compile(r"(\\(?:[nrtbf]|u00(?:[01][0-9A-Fa-f]|20|7[Ff]|85|[Aa]0)))")
"""JSON's escapes of white space: the letter of an escape is not part of the word after it."""


def _redact_escaped(redact: Redactor, redact_plain: Redactor, text: str) -> str:
    """Return a JSON document redacted in its values; a fragment of one is redacted between its escapes."""
    if text[:1] in ("{", "["):
        try:
            parsed = orjson.loads(text)
        except ValueError:
            pass
        else:
            redacted = redact_json(parsed, redact)
            return text if redacted == parsed else orjson.dumps(redacted).decode()
    return "".join(piece if at % 2 else redact_plain(piece) for at, piece in enumerate(_ESCAPE.split(text)))


def _compiled(patterns: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    return [(_pattern(name, pattern), f"[{name.upper()}]") for name, pattern in patterns.items()]


def _pattern(name: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"the pattern {name} is no regular expression: {error}") from None


def _replace_pattern(pattern: re.Pattern[str], placeholder: str, text: str) -> str:
    return pattern.sub(lambda match: placeholder if match[0] else "", text)


def _redact_around_data(redact: Redactor, text: str) -> str:
    """Return the text redacted, except for base64 data: its digits mean nothing, and a change breaks it."""
    if len(text) >= MIN_BASE64:
        if _BASE64.fullmatch(text):
            return text
        if ";base64," in text:
            return "".join(piece if at % 2 else redact(piece) for at, piece in enumerate(_DATA.split(text)))
    return redact(text)


# --- calls ---


def redact_call(call: ModelCall, redact: Redactor | None) -> ModelCall:
    """Return the call with the texts redacted that are sent besides content.

    These texts are custom properties and metadata, the text of an error, scores, and parameters that are
    texts. In the span's name and the provider's address only keys are redacted, and everywhere if `redact` is
    None. The context's ids, feature, groups and flags stay.
    """
    context, error, base_url = call.context, call.error, call.base_url
    changes: dict[str, Any] = {}
    if context.properties:
        properties = _redact_value(dict(context.properties), redact)
        if properties != context.properties:
            changes["context"] = context = context._replace(properties=properties)
    if redact is not None and context.username is not None:
        changes["context"] = context._replace(username=redact(context.username))
    if error is not None:
        changes["error"] = error._replace(
            type=None if error.type is None else without_keys(error.type),
            message=None if error.message is None else (redact or without_keys)(error.message),
        )
    if base_url is not None and ("@" in base_url or "?" in base_url):
        changes["base_url"] = safe_url(without_keys(base_url))
    if call.evaluations:
        changes["evaluations"] = [_score(score, redact or without_keys) for score in call.evaluations]
    if len(call.name) > MIN_KEY and may_hold_key(call.name):
        changes["name"] = without_keys(call.name)
    parameters = call.parameters
    if "stop" in parameters or "response_format" in parameters:  # they may hold text
        texts = {
            name: _redact_value(parameters[name], redact) for name in _TEXT_PARAMETERS if name in parameters
        }
        changes["parameters"] = {**parameters, **texts}
    return call._replace(**changes) if changes else call


_TEXT_PARAMETERS = ("stop", "response_format")
MIN_KEY = 16
"""Characters of the shortest key."""


def _score(score: Evaluation | Feedback, redact: Redactor) -> Evaluation | Feedback:
    if isinstance(score, Feedback):
        return score._replace(text=redact(score.text))
    explanation = score.explanation
    return score._replace(
        label=None if score.label is None else redact(score.label),
        explanation=None if explanation is None else redact(explanation),
    )


def redact_content(call: ModelCall, redact: Redactor | None) -> ModelCall:
    """Return the call with its content redacted: messages, tools, states and embedded texts."""
    changes: dict[str, Any] = {}
    if call.tools:
        changes["tools"] = [redact_tool(tool, redact or without_keys) for tool in call.tools]
    if redact is None:
        if not _content_may_hold_key(call):
            return call._replace(**changes) if changes else call
        redact = redactor()
    for name in ("input", "output"):
        if messages := getattr(call, name):
            changes[name] = [_message(message, redact) for message in messages]
    for name in ("embedded", "input_state", "output_state"):
        if (value := getattr(call, name)) is not None:
            changes[name] = redact_json(value, redact)
    return call._replace(**changes) if changes else call


def _content_may_hold_key(call: ModelCall) -> bool:
    texts: list[str] = []
    others: list[Any] = []
    for messages in (call.input, call.output):
        for message in messages:
            for part in message["parts"]:
                if type(part) is dict and len(part) == 2 and part.get("type") == "text":
                    text = part.get("content")
                    if type(text) is str:
                        texts.append(text)
                        continue
                others.append(part)
    others += [value for value in (call.embedded, call.input_state, call.output_state) if value is not None]
    return may_hold_key("\n".join(texts)) or (bool(others) and _may_hold_key(others))


def _may_hold_key(value: Any) -> bool:
    """Whether a JSON value may hold a key; any other value may."""
    try:
        return may_hold_key(orjson.dumps(value, default=_nothing).decode())
    except TypeError:
        return True


def _nothing(_value: Any) -> None:
    """Return None for bytes, which hold no text."""


def _redact_value(value: Any, redact: Redactor | None) -> Any:
    """Return the value redacted; without a redactor it is copied only if it may hold a key."""
    if redact is not None:
        return redact_json(value, redact)
    return redact_json(value, redactor()) if _may_hold_key(value) else value


_IDS = frozenset({"id", "type", "call_id", "tool_call_id", "file_id", "mime_type", "modality"})


def _message(message: Message, redact: Redactor) -> Message:
    return {**message, "parts": [_part(part, redact) for part in message["parts"]]}


def _part(part: Any, redact: Redactor) -> Any:
    """Return a part of a message redacted, except for its ids and for data of media."""
    if type(part) is not dict or is_remote(part):
        return redact_json(part, redact)
    blob = part.get("type") == "blob"
    return {
        key: value if key in _IDS or (blob and key in {"content", "data"}) else redact_json(value, redact, 1)
        for key, value in part.items()
    }


# --- spans on disk ---


def may_hold_credentials(document: bytes) -> bool:
    """Whether a span, as JSON in the spool, may hold something that is always redacted before it is sent."""
    text = document.decode(errors="replace")
    if may_hold_key(text) or "headers" in text or "mcp" in text.lower():
        return True
    return "@" in text and "://" in text
