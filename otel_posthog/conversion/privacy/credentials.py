"""Keys and tokens of providers, which are redacted in everything that is sent, without any option.

Each shape is found by one character that is rare in ordinary text, and its neighbours: searching for a
character costs a thirtieth of searching for a word. The work is linear in the length of the text, because no
pattern nests repetitions, and no long one can begin within text that it has passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

__all__ = ["SECRET", "TextRange", "may_hold_key", "replace_ranges", "safe_url", "without_keys"]

SECRET = "[SECRET]"  # noqa: S105  # the placeholder

TextRange = tuple[int, int]
"""Start and end in a text."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_HAS_DIGIT = re.compile(r"[A-Za-z._~+/=-]{0,80}[0-9]")  # a key has a digit, a hyphenated name has none
_DASHED = re.compile(
    r"(?<![A-Za-z0-9])(?:sk|xai|nvapi|pplx|tvly|glpat|GOCSPX|xapp|xox[abeoprs])\Z"  # OpenAI ... Slack
)
_UNDERLINED = re.compile(
    r"(?<![A-Za-z0-9])(?:gh[opsru]|github_pat|hf|[sr]k_(?:live|test)|whsec|ph[xsar]|gsk|r8|fw|tgp_v1|npm|ntn"
    r"|lin_api|dop_v1|lsv2_[ps][tk]|pcsk_[A-Za-z0-9]{1,8})\Z"
)
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,3}")
_GIVEN = r"[\"'\\]{0,4}\s{0,3}[:=]\s{0,3}[\"'\\]{0,4}"
_API_KEY = re.compile(_GIVEN + r"(?=[A-Za-z._~+/=-]{0,80}[0-9])([A-Za-z0-9._~+/=-]{16,})")
_AUTHORIZATION = re.compile(
    r"(?:_token)?" + _GIVEN + r"(?i:(bearer|basic|token|apikey|key)\s{1,3})?([^\s\"'\\,;<>{}\[\]]{8,})"
)
_BEARER = re.compile(r"(?:[\s\"'\\:=]|%20){1,4}(?=[A-Za-z._~+/=-]{0,80}[0-9])([A-Za-z0-9._~+/=-]{16,})")
_URL_GIVEN = re.compile(_GIVEN + r"(https?:[^\s\"'<>]{1,2048})")


def _prefixed(prefix: re.Pattern[str], text: str, match: re.Match[str]) -> TextRange | None:
    """Return the range of a key whose prefix ends with the sign."""
    at = match.start()
    before = prefix.search(text, max(0, at - 16), at)
    if before is None or not _HAS_DIGIT.match(text, at):  # checked first, since a token may be long
        return None
    token = _TOKEN.match(text, at)
    return None if token is None else (before.start(), token.end())


def _dashed(text: str, match: re.Match[str]) -> TextRange | None:
    return _value(_API_KEY, text, match) if match[1] else _prefixed(_DASHED, text, match)


def _underlined(text: str, match: re.Match[str]) -> TextRange | None:
    if match[2]:
        url = _URL_GIVEN.match(text, match.end())
        return None if url is None or safe_url(url[1], path=True) == url[1] else url.span(1)
    return _value(_API_KEY, text, match) if match[1] else _prefixed(_UNDERLINED, text, match)


def _value(given: re.Pattern[str], text: str, match: re.Match[str]) -> TextRange | None:
    """Return the range of the value after the sign."""
    value = given.match(text, match.end())
    return None if value is None else value.span(1)


def _google_or_header(text: str, match: re.Match[str]) -> TextRange | None:
    if not match[1]:
        token = _TOKEN.match(text, match.start() - 2)
        return None if token is None else token.span()
    header = _AUTHORIZATION.match(text, match.end())
    if header is None or not (header[1] or len(header[2]) >= 20 or _HAS_DIGIT.match(header[2])):
        return None
    return header.span(2)


def _jwt(text: str, match: re.Match[str]) -> TextRange | None:
    token = _JWT.match(text, match.start() - 2)
    return None if token is None else token.span()


def _from(back: int) -> Callable[[str, re.Match[str]], TextRange | None]:
    """Return a function for keys that begin `back` characters before the sign."""

    def range_of(text: str, match: re.Match[str]) -> TextRange | None:
        token = _TOKEN.match(text, match.end())
        return None if token is None else (match.start() - back, token.end())

    return range_of


class _Shape(NamedTuple):
    """One shape of secrets, or several that share a sign."""

    sign: str
    """A character that every text with such a secret holds."""
    near: re.Pattern[str]
    """The sign and its neighbours. It begins with a literal, which makes the search fast."""
    range_of: Callable[[str, re.Match[str]], TextRange | None]


_SHAPES: tuple[_Shape, ...] = (
    _Shape(
        "-",
        re.compile(
            r"-(?:(?<=[Aa]pi-)([Kk]ey)|(?<=sk-|ai-|pi-|lx-|ly-|at-|PX-|pp-|x[a-z]-)(?=[\w-]{16})(?=[A-Za-z_-]{0,80}[0-9]))"
        ),
        _dashed,
    ),
    _Shape(
        "_",
        re.compile(
            r"_(?:(?=[A-Za-z0-9]{16})|(?<=[Aa][Pp][Ii]_)([Kk][Ee][Yy])|(?<=server_)(url)"
            r"|(?<=authorization_)token|(?<=mcp_)server)"
        ),
        _underlined,
    ),
    _Shape("z", re.compile(r"z(?:(?<=AIz)a(?=[\w-]{30})|(?<=horiz)(ation))"), _google_or_header),
    _Shape("J", re.compile(r"J(?<=eyJ)(?<![A-Za-z0-9_-]eyJ)(?=[\w-]{8})"), _jwt),
    _Shape("K", re.compile(r"K(?<=AK)(?<![A-Z0-9]AK)IA(?=[A-Z0-9]{16}(?![A-Z0-9]))"), _from(1)),
    _Shape("Q", re.compile(r"Q(?<=AQ)(?<![A-Za-z0-9]AQ)\.(?=[\w-]{20})"), _from(1)),
    _Shape("B", re.compile(r"B(?:earer|EARER)"), lambda text, match: _value(_BEARER, text, match)),
)
_DASH, _LINE, _Z, _, _, _, _B = (shape.near for shape in _SHAPES)
# These also match in JSON, in which the letter of an escape such as `\\n` may stand before a key.
_J, _K, _Q = (
    re.compile(pattern)
    for pattern in (r"J(?<=eyJ)(?=[\w-]{8})", r"K(?<=AK)IA(?=[A-Z0-9]{16})", r"Q(?<=AQ)\.(?=[\w-]{20})")
)


def may_hold_key(text: str) -> bool:
    """Whether the text has the sign of a key or credential, so that a full search is worth it."""
    return (  # written out, since every span passes here: a loop takes three times as long
        ("-" in text and _is_near(text, "-", _DASH))
        or ("_" in text and _is_near(text, "_", _LINE))
        or ("z" in text and _is_near(text, "z", _Z))
        or ("J" in text and _is_near(text, "J", _J))
        or ("K" in text and _is_near(text, "K", _K))
        or ("Q" in text and _is_near(text, "Q", _Q))
        or ("B" in text and _is_near(text, "B", _B))
    )


def _is_near(text: str, sign: str, near: re.Pattern[str]) -> bool:
    """Whether the text matches the pattern, which begins with the sign; the first four are tried singly."""
    at = -1
    for _ in range(4):
        at = text.find(sign, at + 1)
        if at < 0:
            return False
        if near.match(text, at) is not None:
            return True
    return near.search(text, at + 1) is not None


def without_keys(text: str) -> str:
    """Return the text with each key or token of a provider redacted."""
    for shape in _SHAPES:
        if shape.sign in text:
            text = replace_ranges(text, shape.near, shape.range_of, SECRET)
    return text


def replace_ranges(
    text: str,
    near: re.Pattern[str],
    range_of: Callable[[str, re.Match[str]], TextRange | None],
    placeholder: str | Mapping[str, str],
) -> str:
    """Return the text with a placeholder for the range that `range_of` returns for each match of `near`.

    `placeholder` is one text, or one by name of the group that matched. If `range_of` returns None, the match
    is no secret, and the search continues one character later, because another one may begin within it. If it
    returns an empty range, the search continues at its end.
    """
    kept: list[str] = []
    last = at = 0
    while (match := near.search(text, at)) is not None:
        at = match.start() + 1
        if (text_range := range_of(text, match)) is not None and text_range[0] >= last:
            start, end = text_range
            if start < end:
                kept.append(text[last:start])
                kept.append(
                    placeholder if isinstance(placeholder, str) else placeholder[match.lastgroup or ""]
                )
                last = end
            at = max(at, end)
    return "".join(kept) + text[last:] if kept else text


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,15}://")
_USERINFO = re.compile(r"(?<=://)[^/?#\s@]{1,2048}(?=@)")
_QUERY = re.compile(r"[?&;#]([^=&;#\s]{1,64})=([^&;#\s]{1,4096})")
_SECRET_NAME = re.compile(r"(?i)key|token|auth|secret|pass|pwd|sig|cred|jwt|^code$")
_OPAQUE = re.compile(r"(?=[A-Za-z_.~%-]{0,80}[0-9])[A-Za-z0-9_.~%-]{16,}\Z")
_SEGMENT = re.compile(
    r"(?<=/)(?=[0-9_=-]{0,80}[A-Za-z])(?=[A-Za-z_=-]{0,80}[0-9])[A-Za-z0-9_=-]{32,}(?=[/?#]|\Z)"
)


def safe_url(url: str, *, path: bool = False) -> str:
    """Return the address with its user, its password and the secret values in its query redacted.

    With `path`, long opaque segments are redacted too: some servers of tools have their key there.
    """
    if not _SCHEME.match(url):  # such as `data:`, which holds no address
        return url
    if "@" in url:
        url = _USERINFO.sub(SECRET, url)
    if path:
        url = _SEGMENT.sub(SECRET, url)
    return _QUERY.sub(_safe_value, url) if "=" in url else url


def _safe_value(match: re.Match[str]) -> str:
    name, value = match[1], match[2]
    if not (_SECRET_NAME.search(name) or _OPAQUE.match(value)):
        return match[0]
    return match[0][: match.start(2) - match.start()] + SECRET
