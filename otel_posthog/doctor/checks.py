"""`otel-posthog doctor`: the checks of a set-up.

A check is a row in `CHECKS`: a function that takes the set-up and yields all its findings.
"""

from __future__ import annotations

import difflib
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from otel_posthog.config.options import OPTIONS, PREFIX
from otel_posthog.config.resolve import Config, OptionError, OptionProblem, resolve
from otel_posthog.config.unknown_variables import unknown_variables
from otel_posthog.conversion.pricing.cost import PriceBook
from otel_posthog.conversion.pricing.price_file import read_prices_and_mistakes
from otel_posthog.delivery import destination_of, ingestion_host
from otel_posthog.delivery.spool.admin import Count, counts
from otel_posthog.doctor.report import FAILED, OK, WARNING, Finding
from otel_posthog.forwarder import price_updates

__all__ = ["CHECKS", "Setup", "look", "set_up"]

OLD_DAYS = 90
"""Days after which prices are old: by then models are in use that the table does not know."""

_PRICES = PREFIX + "PRICES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The set-up to check."""

    config: Config
    today: date
    environ: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)
    """By environment variable: a sentence about its unusable value."""


Check = Callable[[Setup], Iterator[Finding]]


def set_up(environ: Mapping[str, str], today: date, prices: Path | None = None) -> Setup:
    """Return the set-up of an environment, with the price file `prices` if one is given."""
    wrong: dict[str, str] = {}

    def report(problem: OptionProblem) -> None:
        wrong[problem.variable] = str(problem)

    config = resolve({}, environ, report)
    if prices is not None:
        wrong.pop(_PRICES, None)
        try:
            config = resolve({"prices": prices}, environ)
        except OptionError as error:
            wrong[_PRICES] = f"{prices}: {error.problem}"
    return Setup(config=config, today=today, environ=environ, wrong=wrong)


def look(setup: Setup) -> Iterator[tuple[str, Finding]]:
    """Yield the findings of all checks in order. A check that raises yields a finding and stops no other."""
    for name, check in CHECKS:
        yield from ((name, finding) for finding in _run(check, setup))


def _run(check: Check, setup: Setup) -> Iterator[Finding]:
    try:
        yield from check(setup)
    except Exception as error:  # noqa: BLE001  # the next check may still find something
        yield Finding(FAILED, f"the check itself failed ({type(error).__name__}: {error})")


# --- options ---

_OWN_ROWS = frozenset((_PRICES, PREFIX + "PRICE_UPDATES"))


def _variables(setup: Setup) -> Iterator[Finding]:
    """Check for unusable values and for variables without effect."""
    bad = [says for variable, says in setup.wrong.items() if variable not in _OWN_ROWS]
    known = {variable for option in OPTIONS for variable in option.variables}
    bad += unknown_variables(setup.environ).values()
    bad += _misspelt_exporter(setup.environ.get(_EXPORTER, ""))
    yield from (Finding(FAILED, says) for says in bad)
    if not bad:
        count = sum(bool(setup.environ[name].strip()) for name in setup.environ if name in known)
        yield Finding(OK, f"{_counted(count, 'option')} set in the environment", {"set": count})


_EXPORTER = "OTEL_TRACES_EXPORTER"


def _misspelt_exporter(value: str) -> Iterator[str]:
    """Yield a sentence for each exporter that is almost ours: OpenTelemetry then configures none."""
    for name in (each.strip() for each in value.split(",")):
        if name != "posthog" and difflib.get_close_matches(name.lower(), ("posthog",)):
            yield f"{_EXPORTER} names {name!r}, which is no exporter; is posthog meant?"


_PERSONAL = ("phx_", "phs_", "pha_", "phr_")
"""Prefixes of keys of a person or an application (PostHog: posthog/models/utils.py)."""


def _key(setup: Setup) -> Iterator[Finding]:
    key = setup.config.api_key
    if key is None:
        says = (
            "none in the environment: unless the application passes one, nothing is sent; set POSTHOG_API_KEY"
        )
        yield Finding(WARNING, says)
    elif key.startswith(_PERSONAL):
        says = f"{key[:4]}... is no project key: use the one in the project's settings, phc_..."
        yield Finding(FAILED, says)
    elif not key.startswith("phc_"):
        yield Finding(WARNING, "does not look like a PostHog project key, phc_...")
    else:
        yield Finding(OK, "a project key")


_HOSTS = ("us.i.posthog.com", "eu.i.posthog.com", "us.posthog.com", "eu.posthog.com", "app.posthog.com")
"""PostHog's cloud: an address that is almost one of these is misspelt."""


def _endpoint(setup: Setup) -> Iterator[Finding]:
    host = ingestion_host(setup.config.endpoint)
    address, facts = urlsplit(host), {"endpoint": host}
    is_here = address.hostname in ("localhost", "127.0.0.1", "::1")
    near = difflib.get_close_matches(address.hostname or "", _HOSTS, n=1, cutoff=0.85)
    if address.scheme == "http" and not is_here:
        says = f"{host}: anyone on the way can read prompts and the key; use https://"
        yield Finding(WARNING, says, facts)
    elif address.query or address.fragment:
        yield Finding(FAILED, f"{host}: remove the part from ? or # on", facts)
    elif near and address.hostname not in _HOSTS:
        yield Finding(WARNING, f"{host}: is https://{near[0]} meant?", facts)
    else:
        yield Finding(OK, host, facts)


def _spool(setup: Setup) -> Iterator[Finding]:
    directory = setup.config.spool_dir
    if directory is None:
        yield Finding(OK, "none: unsent spans are in memory only", {"directory": None})
        return
    facts = {"directory": str(directory)}
    there = next(each for each in (directory, *directory.parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        says = f"{there} cannot be written to ({os.strerror(error.errno or 0)}): choose another spool_dir"
        yield Finding(FAILED, says, facts)
        return
    if there != directory:
        yield Finding(OK, f"{directory}, which will be created", facts)
        return
    try:
        by_project = counts(directory)
    except FileNotFoundError:
        by_project = {}
    except sqlite3.Error as error:
        yield Finding(FAILED, f"{directory}: the spool cannot be read ({error})", facts)
        return
    yield from _in_spool(directory, by_project, setup.config.api_key)


def _in_spool(directory: Path, by_project: Mapping[str, Count], key: str | None) -> Iterator[Finding]:
    """Check the entries in the spool. Without a key, those of every project count."""
    mine = None if key is None else destination_of(key)
    own = [count for project, count in by_project.items() if project == mine or mine is None]
    count = Count(sum(each.waiting for each in own), sum(each.refused for each in own))
    facts = {"directory": str(directory), **count._asdict()}
    if count.refused:
        says = f"{directory}: {count}; `otel-posthog replay list` tells why, `replay resend` tries again"
        yield Finding(WARNING, says, facts)
    else:
        yield Finding(OK, f"{directory}: {count}", facts)
    for project, other in by_project.items():
        if mine not in (None, project):
            yield Finding(
                WARNING,
                f"{directory}: under another key, that of project {project}: {other};"
                f" `otel-posthog replay adopt {project}` gives them to this one",
                {"directory": str(directory), "project": project, **other._asdict()},
            )


# --- prices ---


def _price_updates(setup: Setup) -> Iterator[Finding]:
    """Fetch new prices if updates are on, as the application does; the next check reads them."""
    variable = PREFIX + "PRICE_UPDATES"
    wanted = setup.config.price_updates
    if variable in setup.wrong:
        yield Finding(FAILED, setup.wrong[variable])
    elif not wanted:
        yield Finding(OK, f"off; {variable}=true fetches new prices once a day", {"on": False})
    else:
        try:
            price_updates.fetch(wanted if isinstance(wanted, str) else None)
        except Exception as error:  # noqa: BLE001  # of an HTTP client, or of what reads the answer
            says = f"on, but new prices could not be fetched ({type(error).__name__}: {error})"
            yield Finding(FAILED, says, {"on": True})
        else:
            yield Finding(OK, "on, and new prices could be fetched", {"on": True})


def _price_data(setup: Setup) -> Iterator[Finding]:
    data = price_updates.current_prices(setup.today)
    age = None if data.date is None else (setup.today - data.date).days
    facts = {
        "version": data.version,
        "models": data.models,
        "date": None if data.date is None else data.date.isoformat(),
        "age_days": age,
        "fetched": data.is_fetched,
    }
    table = f"genai-prices {data.version}, {_counted(data.models, 'model')}"
    if age is None:
        yield Finding(WARNING, f"{table}, of an unknown date", facts)
        return
    table += f", of {data.date} ({_counted(age, 'day')} old)"
    if age > OLD_DAYS:
        yield Finding(WARNING, f"{table}: pip install -U genai-prices brings newer ones", facts)
    else:
        yield Finding(OK, table, facts)


def _own_prices(setup: Setup) -> Iterator[Finding]:
    file = setup.config.prices
    if _PRICES in setup.wrong:
        yield Finding(FAILED, setup.wrong[_PRICES])
        return
    if file is None:
        yield Finding(OK, "none", {"file": None})
        return
    facts: dict[str, Any] = {"file": str(file)}
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        yield Finding(FAILED, f"{file.name}: {error}", facts)
        return
    own_rates, mistakes = read_prices_and_mistakes(text, toml=file.suffix.lower() == ".toml")
    yield from (Finding(FAILED, f"{file.name}: {says}", facts) for says in mistakes)
    if mistakes:
        return
    facts["models"] = len(own_rates)
    if setup.config.cost == "server":
        yield Finding(WARNING, f"{file.name} is not used: with cost=server PostHog computes the costs", facts)
        return
    yield Finding(OK, f"{file.name}, for {_counted(len(own_rates), 'model')}", facts)
    book = PriceBook()
    for name, rates in own_rates.items():
        if rates.lacks and not book.lists(name):
            sides = " and no ".join(rates.lacks)
            says = f"model {name!r} has no {sides} price, nor has the built-in table: its calls have no cost"
            yield Finding(WARNING, f"{file.name}: {says}", facts)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


CHECKS: tuple[tuple[str, Check], ...] = (
    ("options", _variables),
    ("key", _key),
    ("endpoint", _endpoint),
    ("spool", _spool),
    ("price updates", _price_updates),
    ("price data", _price_data),
    ("own prices", _own_prices),
)
