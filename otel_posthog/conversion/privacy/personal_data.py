"""Redaction of personal data by its format: addresses, numbers and passwords.

A format with a checksum must satisfy it. The work is linear in the length of the text: every repetition is
bounded and none is nested, and each pattern begins with a character or class that a search skips to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from functools import partial
from ipaddress import IPv6Address

from otel_posthog.conversion.privacy.credentials import TextRange, replace_ranges
from otel_posthog.conversion.privacy.personal_numbers import number_redactor

__all__ = ["KINDS", "Redactor", "redactors"]

KINDS = ("email", "phone", "card", "iban", "ssn", "ip", "secret")
"""Kinds of personal data, in the order in which they are redacted."""

Redactor = Callable[[str], str]
"""A function that returns a text with placeholders for what must not be sent."""

# --- addresses of mail ---

_AT = re.compile(r"@(?<=[\w.!#$%&'*+/=?^`{|}~-]@)(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_LOCAL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}")
_NOT_FIRST = ".!#$%&'*/=?^`{|}~-"
"""Characters that may begin an address and more often stand before one."""


def _email(text: str, match: re.Match[str]) -> TextRange | None:
    at = match.start()
    before = text[max(0, at - 64) : at][::-1]
    local = _LOCAL.match(before)
    length = 0 if local is None else len(local[0].rstrip(_NOT_FIRST))
    return (at - length, match.end()) if length else None


# --- addresses of machines, version 6 ---

_COLONS = re.compile(
    r":(?:(?<=[0-9a-fA-F]:):(?=[0-9a-fA-F]{0,4}(?!\w))|:(?=[fF]{4}:[0-9])|(?:[0-9a-fA-F]{1,4}:){5,6})"
)
_SIX = re.compile(r"[0-9a-fA-F:.]*")


def _ip(text: str, match: re.Match[str]) -> TextRange | None:
    """Return the range of the address, or the empty range at the end of the run of its characters."""
    before = _SIX.match(text[max(0, match.start() - 40) : match.start()][::-1])
    start, end = match.start() - (before.end() if before else 0), match.end()
    run = _SIX.match(text, end)
    end = run.end() if run else end
    no_address = (end, end)
    run_text = text[start:end]
    if len(run_text) > 46 or _is_word(text[start - 1 : start]) or _is_word(text[end : end + 1]):
        return no_address
    address = run_text if run_text.endswith("::") else run_text.rstrip(".:")
    # The first group has four digits, or there are eight: neither `x[1::2]` of Python nor `std::abs` passes.
    if not (address.find(":") == 4 or address.count(":") == 7 or address.lower().startswith("::ffff:")):
        return no_address
    if not _DIGIT.search(address):
        return no_address
    try:
        IPv6Address(address)
    except ValueError:
        return no_address
    return start, start + len(address)


_DIGIT = re.compile(r"[0-9]")


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


# --- values after a word that names them ---

_GIVEN = r"[\"'\\]{0,4}\s{0,3}[:=]\s{0,3}[\"'\\]{0,4}"
_VALUE = r"([^\s\"'\\,;&<>{}()\[\]]{6,})"
_NUMBER_OF = r"(?:[ _-]?(?:number|no|nr|nummer))?(?:(?=\+)|[\"'\\\s:.=#(+-]{1,8}?)"
_TELEPHONE = re.compile(_NUMBER_OF + r"(\+?[0-9](?:[ .\-/]?[0-9]){6,14})(?![0-9])")
_SECURITY = re.compile(
    _NUMBER_OF + r"(?!000|666|9)([0-9]{3}[ .-]?(?!00)[0-9]{2}[ .-]?(?!0000)[0-9]{4})(?![0-9])"
)
_ENDING = r"(?i:word|wd|phrase|code)?"
_PASSWORD = re.compile(_ENDING + r"[A-Za-z_]{0,20}" + _GIVEN + r"([^\s\"'\\,;&<>{}\[\]]{4,})")
_SPOKEN = re.compile(_ENDING + r"\s{1,3}is:?\s{1,3}[\"'`]?(?=[^\s0-9]{0,60}[0-9])([^\s\"'`,;]{6,})")
_SECRET = re.compile(r"(?!s\b)[A-Za-z_]{0,20}" + _GIVEN + r"(?=[^\s0-9]{0,60}[0-9]|[^\s]{20})" + _VALUE)
_KEY = re.compile(
    r"(?i:(?<=api.key)|(?<=apikey)|(?<=access.key)|(?<=accesskey)|(?<=private.key))" + _SECRET.pattern
)

_NAMED: dict[str, tuple[tuple[str, tuple[re.Pattern[str], ...]], ...]] = {
    "phone": tuple((word, (_TELEPHONE,)) for word in ("phone", "mobile", "whatsapp", "tel", "fax")),
    "ssn": tuple((word, (_SECURITY,)) for word in ("ssn", "social security")),
    "secret": (
        *((word, (_PASSWORD, _SPOKEN)) for word in ("pass", "pwd")),
        *((word, (_SECRET,)) for word in ("secret", "token")),
        ("key", (_KEY,)),
    ),
}
"""By kind: words in lower case, and patterns of the values after them."""

_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _replace_named(
    forms: Iterable[tuple[str, tuple[re.Pattern[str], ...]]], placeholder: str, text: str
) -> str:
    lower = text.lower() if text.isascii() else text.translate(_LOWER)  # of the same length
    ranges: list[TextRange] = []
    for word, patterns in forms:
        at = lower.find(word)
        while at >= 0:
            at += len(word)
            for pattern in patterns:
                match = pattern.match(text, at)
                if match is not None and not (match[1].isdigit() and word == "token"):
                    ranges.append(match.span(1))
                    at = match.end()
                    break
            at = lower.find(word, at)
    if not ranges:
        return text
    kept, last = [], 0
    for start, end in sorted(ranges):
        if end > last:
            kept += [text[last:start], placeholder] if start >= last else []
            last = end
    return "".join(kept) + text[last:]


# --- keys without the shape of a provider's ---

_BLOCK = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----")
_IN_URL = re.compile(r"://(?=[^\s/?#@:]{0,128}:[^\s/?#@]{1,128}@)")
_USERINFO = re.compile(r"[^@]+")
_TEMPORARY = re.compile(r"A(?<![A-Z0-9]A)SIA[A-Z0-9]{16}(?![A-Z0-9])")


def _block(text: str, match: re.Match[str]) -> TextRange:
    """Return the range to the end of the key, or of the text if the key was cut."""
    end = text.find("-----END", match.end())
    close = -1 if end < 0 else text.find("-----", end + 8)
    return match.start(), len(text) if close < 0 else close + 5


def _in_url(text: str, match: re.Match[str]) -> TextRange | None:
    userinfo = _USERINFO.match(text, match.end())
    return None if userinfo is None else userinfo.span()


_OTHERS: dict[
    str, tuple[tuple[str, re.Pattern[str], Callable[[str, re.Match[str]], TextRange | None]], ...]
] = {
    "email": (("@", _AT, _email),),
    "ip": ((":", _COLONS, _ip),),
    "secret": (
        ("-----BEGIN", _BLOCK, _block),
        ("://", _IN_URL, _in_url),
        ("ASIA", _TEMPORARY, lambda _text, match: match.span()),
    ),
}
"""By kind: a text that must occur, the pattern to search for, and a function that returns the range."""


def redactors(kinds: Collection[str]) -> list[Redactor]:
    """Return the redactors of the kinds, in the order in which they must be applied."""
    steps: list[Redactor] = []
    for kind in KINDS:
        if kind in kinds:
            steps += [
                partial(_replace_shape, sign, near, range_of, f"[{kind.upper()}]")
                for sign, near, range_of in _OTHERS.get(kind, ())
            ]
            if kind in _NAMED:
                steps.append(partial(_replace_named, _NAMED[kind], f"[{kind.upper()}]"))
    redact_numbers = number_redactor(kinds)
    return steps if redact_numbers is None else [*steps, redact_numbers]


def _replace_shape(
    sign: str,
    near: re.Pattern[str],
    range_of: Callable[[str, re.Match[str]], TextRange | None],
    placeholder: str,
    text: str,
) -> str:
    return replace_ranges(text, near, range_of, placeholder) if sign in text else text
