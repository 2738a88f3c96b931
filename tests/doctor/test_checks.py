"""`otel-posthog doctor`: what it finds in a set-up, as lines, as JSON and as an exit status."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from otel_posthog import cli
from otel_posthog.config.options import OPTIONS, Option
from otel_posthog.delivery import Entry, destination_of
from otel_posthog.delivery.spool.database import FILE_NAME
from otel_posthog.delivery.spool.entries import DeadLetter
from otel_posthog.delivery.spool.spool import Spool
from otel_posthog.doctor import checks
from otel_posthog.doctor.report import Finding
from otel_posthog.forwarder import price_updates
from otel_posthog.forwarder.price_updates import PriceData
from tests.support.price_server import price_server

PREFIX = "OTEL_EXPORTER_POSTHOG_"
TODAY = date(2026, 11, 21)
GOOD = '[models."my-*"]\ninput = 1\noutput = 2\n'


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, and prices of yesterday, whatever package is installed."""
    monkeypatch.setenv("POSTHOG_API_KEY", "phc_x")
    _prices_are_of(monkeypatch, date.today() - timedelta(days=1))  # noqa: DTZ011  # as the command does


def _prices_are_of(monkeypatch: pytest.MonkeyPatch, day: date | None) -> None:
    found = PriceData(version="0.2.3", models=2330, date=day, is_fetched=False)
    monkeypatch.setattr(price_updates, "current_prices", lambda _: found)


def found(environ: dict[str, str] | None = None, prices: Path | None = None) -> dict[str, Finding]:
    return dict(checks.look(checks.set_up(environ or {}, TODAY, prices)))


@pytest.mark.parametrize(
    ("age", "state", "says"),
    [
        (0, "ok", r"genai-prices 0\.2\.3, 2,330 models, of 2026-11-21 \(0 days old\)"),
        (90, "ok", r".*\(90 days old\)"),
        (91, "warning", r".*\(91 days old\): pip install -U genai-prices brings newer ones"),
        (None, "warning", r".*of an unknown date"),
    ],
)
def test_the_age_of_the_prices_is_told_and_old_ones_are_a_warning(
    age: int | None, state: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prices_are_of(monkeypatch, None if age is None else TODAY - timedelta(days=age))
    finding = found()["price data"]
    assert finding.state == state
    assert re.fullmatch(says, finding.says)
    assert finding.facts["age_days"] == age


@pytest.mark.parametrize(
    ("text", "more", "state", "says"),
    [
        (GOOD, {}, "ok", "own.toml, for 1 model"),
        (GOOD + "imput = 3\n", {}, "failed", "own.toml: line 4: model 'my-*': unknown price 'imput'"),
        ("[models", {}, "failed", "own.toml: "),
        (GOOD, {"COST": "server"}, "warning", "own.toml is not used: with cost=server"),
    ],
)
@pytest.mark.parametrize("by_flag", [False, True], ids=["variable", "flag"])
def test_a_file_of_own_prices_is_checked(
    tmp_path: Path, text: str, more: dict[str, str], state: str, says: str, by_flag: bool
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    environ = {PREFIX + name: value for name, value in more.items()}
    if not by_flag:
        environ[PREFIX + "PRICES"] = str(file)
    finding = found(environ, file if by_flag else None)["own prices"]
    assert finding.state == state
    assert finding.says.startswith(says)


def test_a_file_that_is_not_there_is_told() -> None:
    finding = found({PREFIX + "PRICES": "/no/such/file"})["own prices"]
    assert finding.state == "failed"
    assert "path of an existing file" in finding.says


def test_updates_that_are_off_ask_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(price_updates, "fetch", lambda _: pytest.fail("somebody was asked"))
    assert found()["price updates"].state == "ok"
    assert found()["price updates"].facts == {"on": False}


def test_updates_that_are_on_are_tried_and_what_came_is_looked_at() -> None:
    with price_server() as (url, asked):
        findings = found({PREFIX + "PRICE_UPDATES": url})
        assert asked == ["/data.json"]
    assert findings["price updates"].state == "ok"
    assert findings["price data"].facts["fetched"] is True
    assert findings["price data"].facts["models"] == 1


@pytest.mark.parametrize("wanted", ["http://127.0.0.1:9/data.json", "perhaps"])
def test_updates_that_cannot_be_had_are_told(wanted: str) -> None:
    assert found({PREFIX + "PRICE_UPDATES": wanted})["price updates"].state == "failed"


def test_a_check_that_breaks_is_told_and_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: date) -> Any:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(price_updates, "current_prices", broken)
    findings = found()
    assert findings["price data"] == ("failed", "the check itself failed (ZeroDivisionError: oh)", {})
    assert findings["own prices"].state == "ok"


@pytest.mark.usefixtures("fresh")
def test_a_set_up_in_which_all_is_well_is_a_table_and_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["ok"] * len(checks.CHECKS)
    assert [line[10:24].strip() for line in lines] == [name for name, _ in checks.CHECKS]


@pytest.mark.usefixtures("fresh")
def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert [check["check"] for check in told["checks"]] == [name for name, _ in checks.CHECKS]
    assert told["checks"][5]["facts"]["age_days"] == 1


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_old_prices_are_a_warning_and_no_failure(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _prices_are_of(monkeypatch, date(2020, 1, 1))
    assert cli.main(["doctor", *flags]) == 0
    assert "warning" in capsys.readouterr().out


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_where_something_has_failed_the_status_is_one(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PREFIX + "PRICES", "/no/such/file")
    assert cli.main(["doctor", *flags]) == 1
    assert "failed" in capsys.readouterr().out


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("variable", ["", "/no/other/file"])
def test_a_file_named_by_the_flag_that_is_not_there_is_one_line_that_failed_among_all(
    variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PREFIX + "PRICES", variable)
    assert cli.main(["doctor", "--prices", "/no/such/file"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["ok"] * (len(checks.CHECKS) - 1) + ["failed"]
    assert lines[-1].endswith("  /no/such/file: the path of an existing file is expected")


@pytest.mark.usefixtures("fresh")
def test_a_file_named_by_the_flag_stands_in_for_one_of_the_environment_that_is_not_there(
    tmp_path: Path,
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(GOOD)
    assert found({PREFIX + "PRICES": "/no/such/file"}, file)["own prices"].state == "ok"


# --- options ---


def told(check: str, environ: dict[str, str], prices: Path | None = None) -> list[tuple[str, str]]:
    looked = checks.look(checks.set_up(environ, TODAY, prices))
    return [(finding.state, finding.says) for name, finding in looked if name == check]


@pytest.mark.parametrize(
    ("environ", "state", "says"),
    [
        ({}, "ok", "0 options set in the environment"),
        ({PREFIX + "EVENTS": "ai"}, "ok", "1 option set in the environment"),
        (
            {PREFIX + "SPOOLDIR": "/x"},
            "failed",
            f"{PREFIX}SPOOLDIR is no option; is {PREFIX}SPOOL_DIR meant?",
        ),
        ({PREFIX + "BEFORE_SEND": "x"}, "failed", f"{PREFIX}BEFORE_SEND has no effect: this option"),
        ({PREFIX + "Q" * 40: "x"}, "failed", f"{PREFIX}{'Q' * 40} is no option and has no effect"),
        ({PREFIX + "TIMEOUT": "soon"}, "failed", f"{PREFIX}TIMEOUT is not usable: a number of seconds"),
        ({"POSTHOG_HOST": "posthog"}, "failed", "POSTHOG_HOST is not usable: a URL such as"),
        ({"OTEL_TRACES_EXPORTER": "otlp, postog"}, "failed", "OTEL_TRACES_EXPORTER names 'postog', which"),
        ({"OTEL_TRACES_EXPORTER": "otlp,posthog,console"}, "ok", "0 options set in the environment"),
    ],
)
def test_variables_that_are_not_usable_or_not_known_are_told(
    environ: dict[str, str], state: str, says: str
) -> None:
    [(found_state, found_says)] = told("options", environ)
    assert found_state == state
    assert found_says.startswith(says)


def test_all_that_is_wrong_is_told_and_not_the_first_of_it() -> None:
    environ = {PREFIX + "TIMEOUT": "soon", PREFIX + "COST": "ours", PREFIX + "SPOOLDIR": "/x"}
    assert [state for state, _ in told("options", environ)] == ["failed"] * 3


@pytest.mark.parametrize("option", [option for option in OPTIONS if not option.argument_only])
def test_every_variable_that_is_read_is_known(option: Option) -> None:
    found = told("options", dict.fromkeys(option.variables, ""))
    assert [state for state, _ in found] == ["ok"]


@pytest.mark.parametrize(
    ("key", "state", "says"),
    [
        ("", "warning", "none in the environment"),
        ("phc_abc", "ok", "a project key"),
        ("phx_abc", "failed", "phx_... is no project key"),
        ("abc", "warning", "does not look like"),
    ],
)
def test_a_key_that_is_missing_or_of_another_kind_is_told_and_never_shown(
    key: str, state: str, says: str
) -> None:
    [(found_state, found_says)] = told("key", {"POSTHOG_API_KEY": key})
    assert found_state == state
    assert found_says.startswith(says)
    assert "abc" not in found_says


@pytest.mark.parametrize(
    ("host", "state", "says"),
    [
        ("", "ok", "https://us.i.posthog.com"),
        ("https://eu.posthog.com/", "ok", "https://eu.i.posthog.com"),
        ("http://127.0.0.1:8765", "ok", "http://127.0.0.1:8765"),
        ("http://posthog.example", "warning", "http://posthog.example: anyone on the way"),
        ("https://eu.posthg.com", "warning", "https://eu.posthg.com: is https://eu.posthog.com meant?"),
        ("https://posthog.example", "ok", "https://posthog.example"),
        (
            "https://posthog.example/?a=b",
            "failed",
            "https://posthog.example/?a=b: remove the part from ? or # on",
        ),
    ],
)
def test_where_events_go_is_told(host: str, state: str, says: str) -> None:
    [(found_state, found_says)] = told("endpoint", {"POSTHOG_HOST": host})
    assert found_state == state
    assert found_says.startswith(says)


def test_a_spool_that_can_be_written_to_is_well_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    assert told("spool", {PREFIX + "SPOOL_DIR": str(tmp_path)}) == [("ok", f"{tmp_path}: nothing waiting")]
    below = tmp_path / "a" / "b"
    assert told("spool", {PREFIX + "SPOOL_DIR": str(below)}) == [("ok", f"{below}, which will be created")]
    assert [*tmp_path.iterdir()] == []


WAITS, REFUSED = Entry("event", b"{}", 0.0), DeadLetter(b"{}", 0.0, "invalid")
WHY = "`otel-posthog replay list` tells why, `replay resend` tries again"
OTHERS = f"under another key, that of project {destination_of('phc_b')}"
ADOPT = f"`otel-posthog replay adopt {destination_of('phc_b')}` gives them to this one"


@pytest.mark.parametrize(
    ("key", "inside", "says"),
    [
        ("phc_a", {"phc_a": (2, 0)}, [("ok", "2 waiting")]),
        ("phc_a", {"phc_a": (0, 1)}, [("warning", f"1 refused; {WHY}")]),
        ("phc_a", {"phc_a": (1, 2)}, [("warning", f"1 waiting, 2 refused; {WHY}")]),
        (
            "phc_a",
            {"phc_b": (1, 1)},
            [
                ("ok", "nothing waiting"),
                ("warning", f"{OTHERS}: 1 waiting, 1 refused; {ADOPT}"),
            ],
        ),
        (
            "phc_a",
            {"phc_a": (3, 0), "phc_b": (1, 0)},
            [
                ("ok", "3 waiting"),
                ("warning", f"{OTHERS}: 1 waiting; {ADOPT}"),
            ],
        ),
        ("", {"phc_a": (3, 0), "phc_b": (1, 0)}, [("ok", "4 waiting")]),
    ],
)
def test_what_is_in_a_spool_is_counted(
    tmp_path: Path, key: str, inside: dict[str, tuple[int, int]], says: list[tuple[str, str]]
) -> None:
    for each, (waiting, refused) in inside.items():
        spool = Spool(tmp_path, destination_of(each), max_bytes=10**8, lease_seconds=60)
        spool.put([WAITS] * waiting)
        spool.acknowledge((), dead=[REFUSED] * refused)
        spool.close()
    environ = {PREFIX + "SPOOL_DIR": str(tmp_path), "POSTHOG_API_KEY": key}
    assert told("spool", environ) == [(state, f"{tmp_path}: {sentence}") for state, sentence in says]


def test_a_spool_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("no database, but long enough to be looked at as one" * 40)
    [(state, says)] = told("spool", {PREFIX + "SPOOL_DIR": str(tmp_path)})
    assert state == "failed"
    assert says.startswith(f"{tmp_path}: the spool cannot be read (")


def test_a_spool_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    [(state, says)] = told("spool", {PREFIX + "SPOOL_DIR": str(file / "below")})
    assert state == "failed"
    assert says == f"{file} cannot be written to (Not a directory): choose another spool_dir"


# --- a file of own prices ---


def test_every_mistake_of_a_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(GOOD + "imput = 3\n[models.gpt-5.1]\ninput = 1\n[models.b]\ninput = 'free'\n[more]\n")
    found = told("own prices", {}, file)
    assert [state for state, _ in found] == ["failed"] * 4
    assert [re.match(r"own\.toml: line (\d)", says) is not None for _, says in found] == [True] * 4


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ('[models."gpt-5.1"]\ninput = 1', None),
        ('[models."gpt-5*"]\noutput = 1', None),
        ("[models.mine]\nimage = 1", None),
        ("[models.mine]\ninput = 1", "model 'mine' has no output price, nor has the built-in table"),
        ('[models."mine-*"]\noutput = 1', "model 'mine-*' has no input price"),
        ("[models.mine]\ncache_read = 1", "model 'mine' has no input and no output price"),
    ],
)
def test_a_price_that_nobody_has_is_a_warning(tmp_path: Path, text: str, warning: str | None) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    first, *more = told("own prices", {}, file)
    assert first == ("ok", "own.toml, for 1 model")
    assert [(state, says.startswith(f"own.toml: {warning}")) for state, says in more] == (
        [] if warning is None else [("warning", True)]
    )
