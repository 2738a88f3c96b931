"""The check of the delivery options when a server starts: an invalid one stops it, but not an application."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from otel_posthog.config.resolve import Config, OptionProblem, resolve

__all__ = ["check_project_key", "delivery_options"]

_PERSONAL_KEY = "phx_"


def delivery_options(environ: Mapping[str, str], *, needs_key: bool = True) -> Config:
    """Return the configuration from the environment.

    Raises:
        ValueError: there is no key, or an option is invalid; the text has every problem, and what to do.
    """
    problems: list[OptionProblem] = []
    config = resolve({}, environ, problems.append)
    if problems:  # without their consequences, which are those for an application
        raise ValueError("; ".join(f"{each.variable} {each.problem}" for each in problems))
    if config.api_key is None and needs_key:
        raise ValueError("there is no PostHog project key: set POSTHOG_API_KEY=phc_...")
    if config.api_key is not None:
        check_project_key(config.api_key, "POSTHOG_API_KEY")
    if config.spool_dir is not None:
        _check_spool(config.spool_dir)
    return config


def check_project_key(key: str, option: str) -> None:
    """Check that a key, which `option` holds, is not a personal one.

    Raises:
        ValueError: it is.
    """
    if key.startswith(_PERSONAL_KEY):
        raise ValueError(
            f"the key is a personal one ({_PERSONAL_KEY}...): set {option} to the project's, phc_..."
        )


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
