"""The options of delivery, for a server: what an application would do without stops a server at its start."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from otel_posthog.config.resolve import Config, OptionProblem, resolve

__all__ = ["check_kind", "delivery_options"]

_PERSONAL = "phx_"


def delivery_options(environ: Mapping[str, str], *, needs_key: bool = True) -> Config:
    """What the environment says of delivery.

    Raises:
        ValueError: something is wrong with it; the text says all that is, and what to do.
    """
    problems: list[OptionProblem] = []
    found = resolve({}, environ, problems.append)
    if problems:  # the consequence is one for an application, which runs on
        raise ValueError("; ".join(f"{each.variable} {each.problem}" for each in problems))
    if found.api_key is None and needs_key:
        raise ValueError("there is no PostHog project key: set POSTHOG_API_KEY=phc_...")
    if found.api_key is not None:
        check_kind(found.api_key, "POSTHOG_API_KEY")
    if found.spool_dir is not None:
        _check_spool(found.spool_dir)
    return found


def check_kind(key: str, where: str) -> None:
    """See that a key, which stands `where`, is no person's.

    Raises:
        ValueError: it is.
    """
    if key.startswith(_PERSONAL):
        raise ValueError(f"the key is a personal one ({_PERSONAL}...): set {where} to the project's, phc_...")


def _check_spool(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ValueError(
            f"the spool in {directory} cannot be used ({reason}): choose another spool_dir"
        ) from None
