"""`otel-posthog doctor`: what is checked of a set-up, and what was found.

A check is a row in `CHECKS`: a function that looks at the set-up and says what it found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from otel_posthog import config as options
from otel_posthog import price_data
from otel_posthog.events.price_file import read_prices

__all__ = ["CHECKS", "Finding", "Setup", "as_json", "as_table", "is_well", "look", "set_up"]

OLD_DAYS = 90
"""Days after which prices are old: by then there are models in use that the table does not know."""

OK, WARNING, FAILED = "ok", "warning", "failed"


class Finding(NamedTuple):
    """What a check found."""

    state: str
    """`ok`, `warning` or `failed`."""
    says: str
    """One sentence, with what to do about it."""
    facts: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What is looked at."""

    config: options.Config
    today: date
    wrong: Mapping[str, str] = field(default_factory=dict)
    """Sentences about environment variables that are not usable."""


Check = Callable[[Setup], Finding]


def set_up(environ: Mapping[str, str], today: date, prices: Path | None = None) -> Setup:
    """The set-up of an environment, with another price file if one is given."""
    wrong: dict[str, str] = {}
    given = {} if prices is None else {"prices": prices}
    return Setup(config=options.resolve(given, environ, wrong.__setitem__), today=today, wrong=wrong)


def look(setup: Setup) -> Iterator[tuple[str, Finding]]:
    """Do all checks, in their order; one that fails for a fault of ours is told, and hides no other."""
    for name, check in CHECKS:
        try:
            found = check(setup)
        except Exception as error:  # noqa: BLE001  # the next one is still worth looking at
            found = Finding(FAILED, f"could not be looked at ({type(error).__name__}: {error})")
        yield name, found


def as_table(name: str, found: Finding) -> str:
    """A finding as one line."""
    return f"{found.state:8}  {name:14}  {found.says}"


def as_json(findings: list[tuple[str, Finding]]) -> str:
    """All findings, for programs."""
    checks = [{"check": name, **found._asdict()} for name, found in findings]
    return json.dumps({"ok": is_well(findings), "checks": checks}, indent=2)


def is_well(findings: list[tuple[str, Finding]]) -> bool:
    """Whether nothing has failed; a warning, as of old prices, is to be read."""
    return all(found.state != FAILED for _, found in findings)


# --- prices ---


def _price_updates(setup: Setup) -> Finding:
    """Where updates are on, new prices are fetched, as by the application, and looked at after this."""
    variable = options.PREFIX + "PRICE_UPDATES"
    if variable in setup.wrong:
        return Finding(FAILED, setup.wrong[variable])
    wanted = setup.config.price_updates
    if not wanted:
        return Finding(OK, f"off; {variable}=true fetches new prices once a day", {"on": False})
    url = wanted if isinstance(wanted, str) else None
    try:
        price_data.fetch(url)
    except Exception as error:  # noqa: BLE001  # of an HTTP client, or of what reads the answer
        says = f"on, but new prices could not be fetched ({type(error).__name__}: {error})"
        return Finding(FAILED, says, {"on": True})
    return Finding(OK, "on, and new prices could be fetched", {"on": True})


def _price_data(setup: Setup) -> Finding:
    found = price_data.in_use(setup.today)
    age = None if found.date is None else (setup.today - found.date).days
    facts = {
        "version": found.version,
        "models": found.models,
        "date": None if found.date is None else found.date.isoformat(),
        "age_days": age,
        "fetched": found.is_fetched,
    }
    table = f"genai-prices {found.version}, {found.models:,} models"
    if age is None:
        return Finding(WARNING, f"{table}, of an unknown date", facts)
    table += f", of {found.date} ({age} days old)"
    if age > OLD_DAYS:
        return Finding(WARNING, f"{table}: pip install -U genai-prices brings newer ones", facts)
    return Finding(OK, table, facts)


def _own_prices(setup: Setup) -> Finding:
    variable = options.PREFIX + "PRICES"
    if variable in setup.wrong:
        return Finding(FAILED, setup.wrong[variable])
    file = setup.config.prices
    if file is None:
        return Finding(OK, "none", {"file": None})
    facts = {"file": str(file)}
    try:
        found = read_prices(file.read_text(encoding="utf-8"), toml=file.suffix.lower() == ".toml")
    except (OSError, ValueError) as error:
        return Finding(FAILED, f"{file.name}: {error}", facts)
    if setup.config.cost == "server":
        return Finding(WARNING, f"{file.name} is not used: by cost=server PostHog works out the costs", facts)
    return Finding(OK, f"{file.name}, for {len(found)} models", {**facts, "models": len(found)})


CHECKS: tuple[tuple[str, Check], ...] = (
    ("price updates", _price_updates),
    ("price data", _price_data),
    ("own prices", _own_prices),
)
