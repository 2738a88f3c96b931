"""Variables that begin like ours and are none: misspelt, or of an option that is an argument only.

A misspelt variable has no effect: a misspelt `CAPTURE_CONTENT` or `REDACT` sends more than was intended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_posthog.config.options import OPTIONS, PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["unknown_variables"]

_KNOWN = frozenset(variable for option in OPTIONS for variable in option.variables)
_ARGUMENTS = frozenset(PREFIX + option.name.upper() for option in OPTIONS if option.argument_only)


def unknown_variables(names: Iterable[str]) -> dict[str, str]:
    """Return a sentence for each variable of `names` without effect, with the nearest known name."""
    unknown = sorted(name for name in names if name.startswith(PREFIX) and name not in _KNOWN)
    return {name: _sentence(name) for name in unknown}


def _sentence(name: str) -> str:
    if name in _ARGUMENTS:
        return f"{name} has no effect: this option can only be passed as an argument"
    import difflib  # only if a name is misspelt

    near = difflib.get_close_matches(name, _KNOWN, n=1)
    return f"{name} is no option" + (f"; is {near[0]} meant?" if near else " and has no effect")
