"""Keys and tokens of providers: they are masked in whatever leaves, and nobody has to ask for it.

Each shape is found by one character that ordinary text rarely has and its neighbours, because looking for a
character costs a thirtieth of looking for a word. No pattern repeats what repeats, and none that may be long
can begin within a text that it has passed over: the work grows with the text and no faster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

__all__ = ["SECRET", "TextRange", "may_hold_key", "replace_ranges", "safe_url", "without_keys"]

SECRET = "[SECRET]"  # noqa: S105  # what stands in the place of one

TextRange = tuple[int, int]
"""From where to where in a text."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_HAS_DIGIT = re.compile(r"[A-Za-z._~+/=-]{0,80}[0-9]")  # a name with hyphens has none, a key does
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


def _prefixed(prefix: re.Pattern[str], text: str, found: re.Match[str]) -> TextRange | None:
    """A key whose prefix ends with the sign."""
    at = found.start()
    before = prefix.search(text, max(0, at - 16), at)
    if before is None or not _HAS_DIGIT.match(text, at):  # asked first: a token may be long
        return None
    token = _TOKEN.match(text, at)
    return None if token is None else (before.start(), token.end())


def _dashed(text: str, found: re.Match[str]) -> TextRange | None:
    return _value(_API_KEY, text, found) if found[1] else _prefixed(_DASHED, text, found)


def _underlined(text: str, found: re.Match[str]) -> TextRange | None:
    if found[2]:
        url = _URL_GIVEN.match(text, found.end())
        return None if url is None or safe_url(url[1], path=True) == url[1] else url.span(1)
    return _value(_API_KEY, text, found) if found[1] else _prefixed(_UNDERLINED, text, found)


def _value(given: re.Pattern[str], text: str, found: re.Match[str]) -> TextRange | None:
    """What is said after the sign."""
    said = given.match(text, found.end())
    return None if said is None else said.span(1)


def _google_or_header(text: str, found: re.Match[str]) -> TextRange | None:
    if not found[1]:
        token = _TOKEN.match(text, found.start() - 2)
        return None if token is None else token.span()
    said = _AUTHORIZATION.match(text, found.end())
    if said is None or not (said[1] or len(said[2]) >= 20 or _HAS_DIGIT.match(said[2])):
        return None
    return said.span(2)


def _jwt(text: str, found: re.Match[str]) -> TextRange | None:
    token = _JWT.match(text, found.start() - 2)
    return None if token is None else token.span()


def _from(back: int) -> Callable[[str, re.Match[str]], TextRange | None]:
    """A key of which the sign stands so many characters after its begin."""

    def span(text: str, found: re.Match[str]) -> TextRange | None:
        token = _TOKEN.match(text, found.end())
        return None if token is None else (found.start() - back, token.end())

    return span


class _Shape(NamedTuple):
    """One shape of secrets, or several with one sign."""

    sign: str
    """No text without it holds one."""
    near: re.Pattern[str]
    """The sign and what is next to it, begun with a literal: the search flies to it."""
    span: Callable[[str, re.Match[str]], TextRange | None]


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
    _Shape("B", re.compile(r"B(?:earer|EARER)"), lambda text, found: _value(_BEARER, text, found)),
)
_DASH, _LINE, _Z, _, _, _, _B = (shape.near for shape in _SHAPES)
# The look is at JSON as well, where the letter of an escape, as in `\\n`, stands before a key.
_J, _K, _Q = (
    re.compile(pattern)
    for pattern in (r"J(?<=eyJ)(?=[\w-]{8})", r"K(?<=AK)IA(?=[A-Z0-9]{16})", r"Q(?<=AQ)\.(?=[\w-]{20})")
)


def may_hold_key(text: str) -> bool:
    """Whether a look at each part of the text is worth it: it has the sign of a key or of a credential."""
    return (  # written out, for every span passes here: a loop takes three times as long
        ("-" in text and _is_near(text, "-", _DASH))
        or ("_" in text and _is_near(text, "_", _LINE))
        or ("z" in text and _is_near(text, "z", _Z))
        or ("J" in text and _is_near(text, "J", _J))
        or ("K" in text and _is_near(text, "K", _K))
        or ("Q" in text and _is_near(text, "Q", _Q))
        or ("B" in text and _is_near(text, "B", _B))
    )


def _is_near(text: str, sign: str, near: re.Pattern[str]) -> bool:
    """Whether the pattern, which begins with the sign, is there: a few signs are looked at one by one."""
    at = -1
    for _ in range(4):
        at = text.find(sign, at + 1)
        if at < 0:
            return False
        if near.match(text, at) is not None:
            return True
    return near.search(text, at + 1) is not None


def without_keys(text: str) -> str:
    """The text with every key or token of a provider masked."""
    for shape in _SHAPES:
        if shape.sign in text:
            text = replace_ranges(text, shape.near, shape.span, SECRET)
    return text


def replace_ranges(
    text: str,
    near: re.Pattern[str],
    span: Callable[[str, re.Match[str]], TextRange | None],
    placeholder: str | Mapping[str, str],
) -> str:
    """The text with a placeholder, one or by the group that matched, for what `span` says of each match.

    Where `span` says None it is not what it looked like, and the search goes on one character later, for
    something else may begin within; where it says an empty span, nothing before its end is any.
    """
    kept: list[str] = []
    last = at = 0
    while (found := near.search(text, at)) is not None:
        at = found.start() + 1
        if (there := span(text, found)) is not None and there[0] >= last:
            start, end = there
            if start < end:
                instead = placeholder if isinstance(placeholder, str) else placeholder[found.lastgroup or ""]
                kept += text[last:start], instead
                last = end
            at = max(at, end)
    return "".join(kept) + text[last:] if kept else text


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,15}://")
_USERINFO = re.compile(r"(?<=://)[^/?#\s@]{1,2048}(?=@)")
_QUERY = re.compile(r"[?&;#]([^=&;#\s]{1,64})=([^&;#\s]{1,4096})")
_TELLS = re.compile(r"(?i)key|token|auth|secret|pass|pwd|sig|cred|jwt|^code$")
_OPAQUE = re.compile(r"(?=[A-Za-z_.~%-]{0,80}[0-9])[A-Za-z0-9_.~%-]{16,}\Z")
_SEGMENT = re.compile(
    r"(?<=/)(?=[0-9_=-]{0,80}[A-Za-z])(?=[A-Za-z_=-]{0,80}[0-9])[A-Za-z0-9_=-]{32,}(?=[/?#]|\Z)"
)


def safe_url(url: str, *, path: bool = False) -> str:
    """The address without its user and password, and without the values in its query that are secrets.

    With `path` long opaque segments go as well: some servers of tools have their key there.
    """
    if not _SCHEME.match(url):  # such as `data:`, of which nothing is an address
        return url
    if "@" in url:
        url = _USERINFO.sub(SECRET, url)
    if path:
        url = _SEGMENT.sub(SECRET, url)
    return _QUERY.sub(_safe_value, url) if "=" in url else url


def _safe_value(found: re.Match[str]) -> str:
    name, value = found[1], found[2]
    if not (_TELLS.search(name) or _OPAQUE.match(value)):
        return found[0]
    return found[0][: found.start(2) - found.start()] + SECRET
