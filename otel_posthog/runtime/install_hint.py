"""The command that installs an optional part, by the packages that it needs.

Messages do not name our extras (`otel-posthog[grpc]`): pip would look for this package on an index, and no
index has it.
"""

from __future__ import annotations

import re
from importlib import metadata

__all__ = ["install_hint"]


def install_hint(*extras: str) -> str:
    """Return the command that installs the packages of these extras, as our own metadata lists them."""
    needed = [
        requirement.strip()
        for extra in extras
        for requirement, _, marker in (
            each.partition(";") for each in metadata.requires("otel-posthog") or ()
        )
        if re.search(rf"""extra == ['"]{extra}['"]""", marker)
    ]
    return "pip install " + " ".join(f"'{each}'" for each in dict.fromkeys(needed))
