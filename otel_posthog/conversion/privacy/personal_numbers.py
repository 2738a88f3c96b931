"""Redaction of numbers that identify somebody: cards, accounts, telephones, machines, people.

A format with a checksum must satisfy it. One pass, which begins at the first digit of each number, searches
for all formats. Every repetition is bounded, so the work is linear in the length of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from otel_posthog.conversion.privacy.credentials import TextRange, replace_ranges

__all__ = ["number_redactor"]

_GAP = r"[ \u00a0\u202f-]"
_DIALLED = r"[ .\-/\u00a0\u202f]"

_IN_NUMBERS = r"[0-9 .()/\u00a0\u202f-]"
"""Characters of which every number except an account has at least six after its first digit; most do not."""
_NO_NUMBER = r"(?P<long>[0-9]{19,}|\.[0-9]{4,})"
"""More digits than any such number has, or a fraction: skipped as a whole."""
_NUMBERS: dict[str, str] = {
    # The first digit has been read; each pattern looks back at it and the text before it.
    "iban": rf"(?<=[A-Za-z]{{2}}[0-9])(?<![A-Za-z0-9]...)(?P<iban>[0-9](?:{_GAP}?[A-Za-z0-9]){{11,30}})",
    "ip": r"(?<![\w.].)(?P<ip>[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?!\w|\.[0-9]))",
    "card": (
        r"(?<=[2-6])(?<![\w.].)(?<![0-9][,-].)(?P<card>[0-9]{12,18}(?!\w)"
        rf"|[0-9]{{3}}(?P<gap>{_GAP})(?:[0-9]{{4}}(?P=gap)[0-9]{{4}}(?P=gap)[0-9]{{4}}(?:(?P=gap)[0-9]{{1,3}})?"
        r"|[0-9]{6}(?P=gap)[0-9]{4,5})(?!\w))"
    ),
    "ssn": r"(?<=[0-8])(?<![\w.-].)(?P<ssn>[0-9]{2}(?P<dash>[ -])[0-9]{2}(?P=dash)[0-9]{4}(?![\w-]|\.[0-9]))",
    "phone": (
        # +49 (0)30 123456
        r"(?:(?<=\+[1-9])|(?<=\+\([1-9]))(?P<international>[0-9]{0,2}\)?"
        rf"(?:{_DIALLED}?(?:\([0-9]{{1,5}}\){_DIALLED}?)?[0-9]){{5,13}}(?![0-9]))"
        # 0049 30 123456
        rf"|(?<=0)(?<!\w.)(?<![\w.,:/+-].)(?P<zeros>0[1-9](?:{_DIALLED}?[0-9]){{7,14}}(?![0-9]))"
        # 030 1234567
        rf"|(?<=0)(?<![\w.,/+-].)(?P<national>[1-9](?:{_DIALLED}?[0-9]){{7,10}}(?!\w))"
        # 415-555-2671, 1-415-555-2671
        r"|(?<=[1-9])(?<![\w.,/+-].)(?P<american>(?:(?<=1)[ .-][2-9]|(?<=[2-9]))[0-9]{2}(?P<dot>[ .-])"
        r"[2-9][0-9]{2}(?P=dot)[0-9]{4}(?![\w-]))"
        # (415) 555-2671
        rf"|(?<=\([0-9])(?P<code>[0-9]{{1,4}}\){_DIALLED}?[0-9](?:{_DIALLED}?[0-9]){{4,8}}(?![\w-]))"
    ),
}
_LENGTHS = {
    pair[:2]: int(pair[2:])
    for pair in (  # noqa: SIM905  # a list of them would be 84 lines
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 "
        "EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 "
        "IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 "
        "NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 "
        "SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
    ).split()
}
"""Characters of an IBAN by country: SWIFT's IBAN registry."""

_GAPS = re.compile(_GAP)
_VALUES = {
    ord(letter): str(int(letter, 36)) for letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
}
"""ISO 7064: A is 10, Z is 35."""
_DOUBLED = bytes.maketrans(b"0123456789", bytes([48, 50, 52, 54, 56, 49, 51, 53, 55, 57]))
_ISSUED = re.compile(
    r"(?:4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|5[1-5][0-9]{14}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)"
    r"[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[689][0-9])[0-9]{11}|35[0-9]{14,17}|(?:5[06-8]|6[0-9])[0-9]{11,17})\Z"
)
"""Lengths by issuer: Visa, Mastercard, American Express, Diners, JCB; Maestro, Discover, UnionPay."""
_NO_DIGIT = re.compile(r"[^0-9]+")
_DATE = re.compile(r"[0-3]?[0-9]([./-])[01]?[0-9]\1(?:19|20)?[0-9]{2}(?![0-9])")


def _iban(text: str, match: re.Match[str]) -> TextRange | None:
    start = match.start() - 2
    length = _LENGTHS.get(text[start : start + 2].upper())
    if length is None:
        return None
    written = text[start : match.end()]
    compact = (written if written.isalnum() else written.replace(" ", "").replace("-", ""))[:length]
    if not compact.isalnum():  # rarer gaps
        compact = _GAPS.sub("", written)[:length]
    if len(compact) < length or int((compact[4:] + compact[:4]).translate(_VALUES)) % 97 != 1:
        return None
    end = start
    for _ in range(length):  # letters and digits, and the gaps between them
        end += 1 if text[end].isalnum() else 2
    return None if text[end : end + 1].isalnum() else (start, end)


def _card(text: str, match: re.Match[str]) -> TextRange | None:
    start, end = match.span()
    gap = match["gap"]
    if gap is None:
        return (start, end) if _is_card(text[start:end]) else None
    if _is_card(text[start:end].replace(gap, "")):
        return start, end
    shorter = start + 19  # four times four digits; a verification number may follow
    return (start, shorter) if end > shorter and _is_card(text[start:shorter].replace(gap, "")) else None


def _is_card(digits: str) -> bool:
    """Whether the digits have an issuer's prefix, its length, and Luhn's checksum."""
    if not _ISSUED.match(digits):
        return False
    written = digits.encode()[::-1]
    return (sum(written[::2]) + sum(written[1::2].translate(_DOUBLED)) - 48 * len(written)) % 10 == 0


def _ssn(_text: str, match: re.Match[str]) -> TextRange | None:
    """Return the range unless the number has a part that is never issued: 000, 666, 9xx; 00; 0000."""
    number = match[0]
    is_issued = number[:3] not in {"000", "666"} and number[4:6] != "00" and number[7:] != "0000"
    return match.span() if is_issued else None


def _ip(_text: str, match: re.Match[str]) -> TextRange | None:
    return match.span() if all(int(octet) < 256 for octet in match[0].split(".")) else None


def _phone(text: str, match: re.Match[str]) -> TextRange | None:
    start, end = match.span()
    number, form = match[0], match.lastgroup
    digits = len(_NO_DIGIT.sub("", number))
    if form == "international":
        return (start - (1 if text[start - 1] == "+" else 2), end) if 7 <= digits <= 16 else None
    if form == "code":
        return (start - 1, end) if 7 <= digits <= 14 else None
    if form == "zeros":
        return (start, end) if 9 <= digits < len(number) else None
    if form == "national":  # without gaps it is longer than a number padded with zeros
        return (start, end) if max(10, digits) <= len(number) and not _DATE.match(number) else None
    return start, end


_CHECKS: dict[str, Callable[[str, re.Match[str]], TextRange | None]] = {
    "long": lambda _text, match: (match.end(), match.end()),  # an empty range: skip it
    "iban": _iban,
    "ip": _ip,
    "card": _card,
    "ssn": _ssn,
}


def number_redactor(kinds: Collection[str]) -> Callable[[str], str] | None:
    """Return a function that redacts the kinds that are numbers, in one pass; None if none is."""
    chosen = [kind for kind in _NUMBERS if kind in kinds]
    if not chosen:
        return None
    others = "|".join([_NO_NUMBER, *(_NUMBERS[kind] for kind in chosen if kind != "iban")])
    account = _NUMBERS["iban"] + "|" if "iban" in chosen else ""
    near = re.compile(rf"[0-9](?<![0-9._].)(?:{account}(?={_IN_NUMBERS}{{6}})(?:{others}))", re.DOTALL)
    names = {name: f"[{kind.upper()}]" for kind in chosen for name in _NAME.findall(_NUMBERS[kind])}

    def range_of(text: str, match: re.Match[str]) -> TextRange | None:
        return _CHECKS.get(match.lastgroup or "", _phone)(text, match)

    return lambda text: replace_ranges(text, near, range_of, names)


_NAME = re.compile(r"\(\?P<([a-z]+)>")
