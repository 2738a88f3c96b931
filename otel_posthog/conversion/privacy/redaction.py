"""What may not leave is masked: provider keys always, personal data and own patterns when asked for.

`redactor` makes one function over text of what was asked for. `redact_call` and `redact_content` apply it to
what somebody wrote, and to nothing that PostHog counts or groups by: ids, models, tokens stay.
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
    """One function over text: provider keys, then the kinds, then own patterns become `[NAME]`.

    `patterns`: name to regular expression. They are the application's own, and so is the time that they take:
    one such as `(a+)+$` may take exponentially long.

    Raises:
        ValueError: a kind is unknown, or a pattern does not compile; the text names it.
    """
    chosen = frozenset(kinds)
    if unknown := chosen - set(KINDS):
        raise ValueError(f"{min(unknown)} is no kind that can be redacted: {', '.join(KINDS)}")
    steps: list[Redactor] = [
        without_keys,
        *redactors(chosen),  # those with checksums first: an own pattern may fit in the middle of one
        *(partial(_own, *each) for each in _compiled(patterns or {})),
    ]

    def plain(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    def redact(text: str) -> str:
        return _escaped(redact, plain, text) if "\\" in text else plain(text)

    return partial(_around_data, redact)


_ESCAPE = re.compile(r"(\\(?:[nrtbf]|u00(?:[01][0-9A-Fa-f]|20|7[Ff]|85|[Aa]0)))")
"""What JSON writes for a blank: the letter in it is no part of the word after it."""


def _escaped(redact: Redactor, plain: Redactor, text: str) -> str:
    """A text of JSON masked in what it says, a piece of one between its escapes."""
    if text[:1] in ("{", "["):
        try:
            parsed = orjson.loads(text)
        except ValueError:
            pass
        else:
            made = redact_json(parsed, redact)
            return text if made == parsed else orjson.dumps(made).decode()
    return "".join(part if at % 2 else plain(part) for at, part in enumerate(_ESCAPE.split(text)))


def _compiled(patterns: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    return [(_pattern(name, pattern), f"[{name.upper()}]") for name, pattern in patterns.items()]


def _pattern(name: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"the pattern {name} is no regular expression: {error}") from None


def _own(pattern: re.Pattern[str], placeholder: str, text: str) -> str:
    return pattern.sub(lambda found: placeholder if found[0] else "", text)


def _around_data(redact: Redactor, text: str) -> str:
    """The text masked, but for base64 data in it: digits there mean nothing, and one change breaks them."""
    if len(text) >= MIN_BASE64:
        if _BASE64.fullmatch(text):
            return text
        if ";base64," in text:
            return "".join(part if at % 2 else redact(part) for at, part in enumerate(_DATA.split(text)))
    return redact(text)


# --- calls ---


def redact_call(call: ModelCall, redact: Redactor | None) -> ModelCall:
    """The call with what is sent of it besides content masked; with `mask` None of provider keys only.

    Custom properties and metadata, the text of an error, scores, parameters that are texts; in the span's
    name and the provider's address only keys. The context's ids, feature, groups and flags stay.
    """
    context, error, base_url = call.context, call.error, call.base_url
    changes: dict[str, Any] = {}
    if context.properties:
        properties = _walked(dict(context.properties), redact)
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
    if "stop" in parameters or "response_format" in parameters:  # in which somebody may have written text
        written = {name: _walked(parameters[name], redact) for name in _WRITTEN if name in parameters}
        changes["parameters"] = {**parameters, **written}
    return call._replace(**changes) if changes else call


_WRITTEN = ("stop", "response_format")
MIN_KEY = 16
"""Characters: nothing shorter is a key."""


def _score(score: Evaluation | Feedback, redact: Redactor) -> Evaluation | Feedback:
    if isinstance(score, Feedback):
        return score._replace(text=redact(score.text))
    explanation = score.explanation
    return score._replace(
        label=None if score.label is None else redact(score.label),
        explanation=None if explanation is None else redact(explanation),
    )


def redact_content(call: ModelCall, redact: Redactor | None) -> ModelCall:
    """The call with its content masked: messages, tools, states, what was embedded."""
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
    """Whether a value of JSON may hold a key; what is no JSON may."""
    try:
        return may_hold_key(orjson.dumps(value, default=_nothing).decode())
    except TypeError:
        return True


def _nothing(_value: Any) -> None:
    """Bytes hold no text."""


def _walked(value: Any, redact: Redactor | None) -> Any:
    """The value masked; with None it is looked at before it is copied."""
    if redact is not None:
        return redact_json(value, redact)
    return redact_json(value, redactor()) if _may_hold_key(value) else value


_IDS = frozenset({"id", "type", "call_id", "tool_call_id", "file_id", "mime_type", "modality"})


def _message(message: Message, redact: Redactor) -> Message:
    return {**message, "parts": [_part(part, redact) for part in message["parts"]]}


def _part(part: Any, redact: Redactor) -> Any:
    """A part of a message, but for its ids and for data of media."""
    if type(part) is not dict or is_remote(part):
        return redact_json(part, redact)
    blob = part.get("type") == "blob"
    return {
        key: value if key in _IDS or (blob and key in {"content", "data"}) else redact_json(value, redact, 1)
        for key, value in part.items()
    }


# --- what waits on disk ---


def may_hold_credentials(document: bytes) -> bool:
    """Whether a span, as the JSON that waits on disk, may hold what is masked in whatever leaves."""
    text = document.decode(errors="replace")
    if may_hold_key(text) or "headers" in text or "mcp" in text.lower():
        return True
    return "@" in text and "://" in text
