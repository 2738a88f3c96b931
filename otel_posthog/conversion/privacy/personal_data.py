"""What texts say of people: addresses, numbers and passwords, found where their format is plausible.

Formats that have a checksum are held to it. Every pattern is bounded in what it repeats and begins with a
character or class that a search skips to; none repeats what repeats. So the work grows with the text only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from functools import partial
from ipaddress import IPv6Address

from otel_posthog.conversion.privacy.credentials import TextRange, replace_ranges
from otel_posthog.conversion.privacy.personal_numbers import numbers

__all__ = ["KINDS", "redactors"]

KINDS = ("email", "phone", "card", "iban", "ssn", "ip", "secret")

Redactor = Callable[[str], str]

# --- addresses of mail ---

_AT = re.compile(r"@(?<=[\w.!#$%&'*+/=?^`{|}~-]@)(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])")
_LOCAL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}")
_NOT_FIRST = ".!#$%&'*/=?^`{|}~-"
"""What may stand in an address, and more often stands before one."""


def _email(text: str, found: re.Match[str]) -> TextRange | None:
    at = found.start()
    before = text[max(0, at - 64) : at][::-1]
    local = _LOCAL.match(before)
    length = 0 if local is None else len(local[0].rstrip(_NOT_FIRST))
    return (at - length, found.end()) if length else None


# --- addresses of machines, version 6 ---

_COLONS = re.compile(
    r":(?:(?<=[0-9a-fA-F]:):(?=[0-9a-fA-F]{0,4}(?!\w))|:(?=[fF]{4}:[0-9])|(?:[0-9a-fA-F]{1,4}:){5,6})"
)
_SIX = re.compile(r"[0-9a-fA-F:.]*")


def _ip(text: str, found: re.Match[str]) -> TextRange | None:
    """The whole run of hexadecimal digits and colons, or an empty span at its end."""
    before = _SIX.match(text[max(0, found.start() - 40) : found.start()][::-1])
    start, end = found.start() - (before.end() if before else 0), found.end()
    run = _SIX.match(text, end)
    end = run.end() if run else end
    nothing = (end, end)
    said = text[start:end]
    if len(said) > 46 or _is_word(text[start - 1 : start]) or _is_word(text[end : end + 1]):
        return nothing
    whole = said if said.endswith("::") else said.rstrip(".:")
    # Not `x[1::2]` of Python, nor `std::abs`: the first group is whole, or all eight are there.
    if not (whole.find(":") == 4 or whole.count(":") == 7 or whole.lower().startswith("::ffff:")):
        return nothing
    if not _DIGIT.search(whole):
        return nothing
    try:
        IPv6Address(whole)
    except ValueError:
        return nothing
    return start, start + len(whole)


_DIGIT = re.compile(r"[0-9]")


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


# --- what a word before it names ---

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
"""By kind: words in lower case, and what follows them."""

_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _named(forms: Iterable[tuple[str, tuple[re.Pattern[str], ...]]], placeholder: str, text: str) -> str:
    lower = text.lower() if text.isascii() else text.translate(_LOWER)  # of the same length
    found: list[TextRange] = []
    for word, patterns in forms:
        at = lower.find(word)
        while at >= 0:
            at += len(word)
            for pattern in patterns:
                said = pattern.match(text, at)
                if said is not None and not (said[1].isdigit() and word == "token"):
                    found.append(said.span(1))
                    at = said.end()
                    break
            at = lower.find(word, at)
    if not found:
        return text
    kept, last = [], 0
    for start, end in sorted(found):
        if end > last:
            kept += [text[last:start], placeholder] if start >= last else []
            last = end
    return "".join(kept) + text[last:]


# --- keys of no provider's shape ---

_BLOCK = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----")
_IN_URL = re.compile(r"://(?=[^\s/?#@:]{0,128}:[^\s/?#@]{1,128}@)")
_USERINFO = re.compile(r"[^@]+")
_TEMPORARY = re.compile(r"A(?<![A-Z0-9]A)SIA[A-Z0-9]{16}(?![A-Z0-9])")


def _block(text: str, found: re.Match[str]) -> TextRange:
    """To the end of the key, or of the text where that was cut."""
    end = text.find("-----END", found.end())
    close = -1 if end < 0 else text.find("-----", end + 8)
    return found.start(), len(text) if close < 0 else close + 5


def _in_url(text: str, found: re.Match[str]) -> TextRange | None:
    userinfo = _USERINFO.match(text, found.end())
    return None if userinfo is None else userinfo.span()


_OTHERS: dict[
    str, tuple[tuple[str, re.Pattern[str], Callable[[str, re.Match[str]], TextRange | None]], ...]
] = {
    "email": (("@", _AT, _email),),
    "ip": ((":", _COLONS, _ip),),
    "secret": (
        ("-----BEGIN", _BLOCK, _block),
        ("://", _IN_URL, _in_url),
        ("ASIA", _TEMPORARY, lambda _text, found: found.span()),
    ),
}
"""By kind: what a text must hold, what is looked for, and what is masked of it."""


def redactors(kinds: Collection[str]) -> list[Redactor]:
    """What masks the kinds, in the order in which they are to be applied."""
    made: list[Redactor] = []
    for kind in KINDS:
        if kind in kinds:
            made += [
                partial(_replace_shape, sign, near, span, f"[{kind.upper()}]")
                for sign, near, span in _OTHERS.get(kind, ())
            ]
            if kind in _NAMED:
                made.append(partial(_named, _NAMED[kind], f"[{kind.upper()}]"))
    found = numbers(kinds)
    return made if found is None else [*made, found]


def _replace_shape(
    sign: str,
    near: re.Pattern[str],
    span: Callable[[str, re.Match[str]], TextRange | None],
    placeholder: str,
    text: str,
) -> str:
    return replace_ranges(text, near, span, placeholder) if sign in text else text
