"""The settings of a gateway, and the errors that stop its start."""

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


def settings_from(*words: str, **environ: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return settings_of(parser.parse_args(words), environ)


def test_by_default_it_listens_on_this_machine_alone() -> None:
    settings = settings_from()
    assert (settings.host, settings.port, settings.grpc_port, settings.workers, settings.token) == (
        "127.0.0.1",
        4318,
        None,
        1,
        None,
    )


@pytest.mark.parametrize(
    ("words", "environ", "sentence"),
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
def test_settings_that_do_not_fit_together_raise_one_sentence(
    words: list[str], environ: dict[str, str], sentence: str
) -> None:
    with pytest.raises(SettingsError, match=sentence) as caught:
        settings_from(*words, **environ)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", [["--trace-window", "11"], ["--port", "70000"], ["--workers", "0"]])
def test_a_value_out_of_its_range_is_a_usage_error(words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        settings_from(*words)
    assert caught.value.code == 2


@pytest.mark.parametrize("words", [["--insecure"], []])
def test_other_machines_reach_it_only_with_a_token_or_insecure(words: list[str]) -> None:
    environ = {} if words else {TOKEN_VARIABLE: FIRST}
    assert settings_from("--host", "0.0.0.0", *words, **environ).host == "0.0.0.0"


def test_every_token_of_a_file_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{FIRST}\n\n  {SECOND}  \n")
    token = settings_from("--token-file", str(file)).token
    assert token is not None
    for credentials in (FIRST, SECOND):
        check_token(token.encode(), f"Bearer {credentials}")
    for credentials in (FIRST + SECOND, f"{FIRST}\n{SECOND}", "", FIRST[:-1]):
        with pytest.raises(RequestRejectedError, match="Bearer"):
            check_token(token.encode(), f"Bearer {credentials}")


def test_no_token_is_in_what_settings_print() -> None:
    assert FIRST not in repr(settings_from(**{TOKEN_VARIABLE: FIRST}))


# --- options of delivery -----------------------------------------------------------------------------


def test_valid_options_are_returned(tmp_path: Path) -> None:
    spool = {"OTEL_EXPORTER_POSTHOG_SPOOL_DIR": str(tmp_path / "new" / "spool")}
    config = delivery_options({**KEY, **spool, "OTEL_EXPORTER_POSTHOG_EVENTS": "ai"})
    assert (config.api_key, config.events) == ("phc_x", frozenset({"ai"}))
    assert delivery_options({}, needs_key=False).api_key is None


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({}, "there is no PostHog project key"),
        ({"POSTHOG_API_KEY": "phx_x"}, "the key is a personal one"),
        ({**KEY, "POSTHOG_HOST": "notaurl"}, "POSTHOG_HOST is not usable"),
        ({**KEY, "OTEL_EXPORTER_POSTHOG_TIMEOUT": "soon"}, "OTEL_EXPORTER_POSTHOG_TIMEOUT is not usable"),
        ({**KEY, "OTEL_EXPORTER_POSTHOG_SPOOL_DIR": "/proc/x"}, "choose another spool_dir"),
    ],
)
def test_a_wrong_option_stops_the_start(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        delivery_options(environ)
    assert "ignored" not in str(caught.value)


def test_one_error_names_all_problems() -> None:
    environ = {**KEY, "POSTHOG_HOST": "notaurl", "OTEL_EXPORTER_POSTHOG_COST": "none"}
    with pytest.raises(ValueError, match=r"POSTHOG_HOST.*; OTEL_EXPORTER_POSTHOG_COST|COST.*; .*HOST"):
        delivery_options(environ)
