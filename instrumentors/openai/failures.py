"""Failures inside an answer with HTTP status 200: an error in its body or choices, or a page in its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from instrumentors.common.attributes import HTTP_STATUS
from instrumentors.common.call_span import Attributes
from instrumentors.openai.fields import get, get_list

_ANSWERS = ("choices", "output", "data", "results", "text", "segments")
"""The fields of an answer, one of which each endpoint has."""
_MESSAGES = ("message", "detail", "msg", "error")
_TITLE = re.compile(r"<title[^>]*>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)
_MESSAGE_LIMIT = 300


def failure_attributes(response: Any, content: bool, may_be_text: bool) -> Attributes:
    """Return the attributes of the error that an answer holds; none if it is an answer."""
    if isinstance(response, str):
        return {} if may_be_text and not is_page(response) else _page_attributes(response, content)
    if error := get(response, "error"):
        return error_attributes(error, content)
    choices = get_list(get(response, "choices"))
    if choices:
        return choices_attributes([_choice_error(choice) for choice in choices], content)
    no_answer = all(get(response, name) is None for name in _ANSWERS)
    if get(response, "object") == "error" or (no_answer and _message(response)):
        return error_attributes(response, content)
    return {}


def _choice_error(choice: Any) -> Any:
    return get(choice, "error") or ({} if get(choice, "finish_reason") == "error" else None)


def choices_attributes(errors: Sequence[Any], content: bool) -> Attributes:
    """Return the attributes of the first error if every choice has one; an empty one has no details."""
    failed = bool(errors) and all(error is not None for error in errors)
    return error_attributes(errors[0], content) if failed else {}


def error_attributes(error: Any, content: bool) -> Attributes:
    """Return the attributes of an error object, or of an error that is a text."""
    code = get(error, "code") or get(error, "status") or get(error, "type")
    status = int(code) if str(code).isdecimal() and len(str(code)) == 3 else None
    message = error if isinstance(error, str) else _message(error)
    return {
        "error.type": str(code or "error"),
        HTTP_STATUS: status if status is not None and status >= 400 else None,
        "error.message": message if content else None,
    }


def _message(error: Any) -> str | None:
    return next((text for name in _MESSAGES if isinstance(text := get(error, name), str) and text), None)


def is_page(text: str) -> bool:
    """Whether a text is HTML: the page of a proxy, or of its login."""
    return text[:64].lstrip().startswith("<")


def _page_attributes(page: str, content: bool) -> Attributes:
    if not page.strip():
        return {}
    title = _TITLE.search(page)
    message = " ".join((title[1] if title else page).split())[:_MESSAGE_LIMIT]
    return {"error.type": "invalid_response", "error.message": message if content else None}
