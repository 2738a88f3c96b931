"""What a gateway is told, and what of it stops its start."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from otel_posthog.gateway.auth import check_token
from otel_posthog.gateway.limits import RequestRejectedError
from otel_posthog.gateway.settings import TOKEN_VARIABLE, Settings, SettingsError, add_arguments, settings_of
from otel_posthog.gateway.startup_checks import delivery_options

FIRST, SECOND = "the-first-of-two-tokens", "the-second-of-two-tokens"
KEY = {"POSTHOG_API_KEY": "phc_x"}


def told(*words: str, **environ: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return settings_of(parser.parse_args(words), environ)


def test_without_a_word_it_listens_on_this_machine_alone() -> None:
    found = told()
    assert (found.host, found.port, found.grpc_port, found.workers, found.token) == (
        "127.0.0.1",
        4318,
        None,
        1,
        None,
    )


@pytest.mark.parametrize(
    ("words", "environ", "said"),
    [
        (["--host", "0.0.0.0"], {}, "can be reached from other machines"),
        (["--host", "::"], {}, "can be reached from other machines"),
        (["--host", ""], {}, "can be reached from other machines"),
        (["--tls-key", "x"], {}, "need --tls-cert"),
        (["--client-ca", "x"], {}, "need --tls-cert"),
        (["--tls-cert", "nowhere.pem"], {}, "--tls-cert"),
        (["--token-file", "nowhere"], {}, "--token-file cannot be read"),
        ([], {TOKEN_VARIABLE: "short"}, "16 characters or more"),
        ([], {TOKEN_VARIABLE: f"{FIRST}\nshort"}, "16 characters or more"),
        ([], {TOKEN_VARIABLE: "with spaces it is no token"}, "without spaces"),
        (["--workers", "2", "--trace-window", "1"], {}, "--trace-window needs --workers 1"),
        (["--max-body-bytes", "9", "--max-in-flight-bytes", "8"], {}, "at least --max-body-bytes"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(
    words: list[str], environ: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        told(*words, **environ)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", [["--trace-window", "11"], ["--port", "70000"], ["--workers", "0"]])
def test_a_value_out_of_its_range_is_a_usage_error(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        told(*words)
    assert caught.value.code == 2


@pytest.mark.parametrize("words", [["--insecure"], []])
def test_beyond_this_machine_with_a_token_or_the_word(words: list[str]) -> None:
    environ = {} if words else {TOKEN_VARIABLE: FIRST}
    assert told("--host", "0.0.0.0", *words, **environ).host == "0.0.0.0"


def test_any_token_of_a_file_opens(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{FIRST}\n\n  {SECOND}  \n")
    token = told("--token-file", str(file)).token
    assert token is not None
    for held in (FIRST, SECOND):
        check_token(token.encode(), f"Bearer {held}")
    for held in (FIRST + SECOND, f"{FIRST}\n{SECOND}", "", FIRST[:-1]):
        with pytest.raises(RequestRejectedError, match="Bearer"):
            check_token(token.encode(), f"Bearer {held}")


def test_no_token_is_in_what_settings_print() -> None:
    assert FIRST not in repr(told(**{TOKEN_VARIABLE: FIRST}))


# --- options of delivery -----------------------------------------------------------------------------


def test_right_options_are_taken(tmp_path: Path) -> None:
    spool = {"OTEL_EXPORTER_POSTHOG_SPOOL_DIR": str(tmp_path / "new" / "spool")}
    found = delivery_options({**KEY, **spool, "OTEL_EXPORTER_POSTHOG_EVENTS": "ai"})
    assert (found.api_key, found.events) == ("phc_x", frozenset({"ai"}))
    assert delivery_options({}, needs_key=False).api_key is None


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "there is no PostHog project key"),
        ({"POSTHOG_API_KEY": "phx_x"}, "the key is a personal one"),
        ({**KEY, "POSTHOG_HOST": "notaurl"}, "POSTHOG_HOST is not usable"),
        ({**KEY, "OTEL_EXPORTER_POSTHOG_TIMEOUT": "soon"}, "OTEL_EXPORTER_POSTHOG_TIMEOUT is not usable"),
        ({**KEY, "OTEL_EXPORTER_POSTHOG_SPOOL_DIR": "/proc/x"}, "choose another spool_dir"),
    ],
)
def test_a_wrong_option_stops_the_start(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        delivery_options(environ)
    assert "ignored" not in str(caught.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    environ = {**KEY, "POSTHOG_HOST": "notaurl", "OTEL_EXPORTER_POSTHOG_COST": "none"}
    with pytest.raises(ValueError, match=r"POSTHOG_HOST.*; OTEL_EXPORTER_POSTHOG_COST|COST.*; .*HOST"):
        delivery_options(environ)
