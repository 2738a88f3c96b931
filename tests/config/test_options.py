"""The table of options, and how arguments and the environment resolve to a `Config`."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from otel_posthog.config.options import OPTIONS, PREFIX
from otel_posthog.config.resolve import Config, OptionProblem, Options, resolve


def resolved(arguments: dict[str, Any] | None = None, **environ: str) -> tuple[Config, list[str]]:
    problems: list[OptionProblem] = []
    config = resolve(arguments or {}, environ, problems.append)
    return config, [str(problem) for problem in problems]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([field.name for field in fields(Config)], id="Config"),
        pytest.param([*get_type_hints(Options)], id="Options"),
    ],
)
def test_the_typed_options_are_those_of_the_table_in_its_order(names: list[str]) -> None:
    assert names == [option.name for option in OPTIONS]


def test_every_default_is_a_value_of_its_own_parser() -> None:
    for option in OPTIONS:
        if option.default is not None:
            assert option.parse(option.default) == option.default


def test_every_option_is_explained_in_one_paragraph() -> None:
    for option in OPTIONS:
        assert option.meaning.endswith(".")
        assert "\n" not in option.meaning


WRONG: list[tuple[str, Any, str]] = [
    ("api_key", "", "key"),
    ("api_key", 5, "key"),
    ("api_key", "phc_\ud800", "key"),
    ("api_key", "phc_x phc_y", "key"),
    ("endpoint", "us.i.posthog.com", "URL"),
    ("endpoint", "https://", "URL"),
    ("endpoint", "http://[oops", "URL"),
    ("endpoint", "http://localhost:port", "URL"),
    ("events", "ai,everything", "llm_completion"),
    ("events", 5, "llm_completion"),
    ("events", ",", "llm_completion"),
    ("events", [["ai"]], "llm_completion"),
    ("capture_content", "perhaps", "true or false"),
    ("max_content_bytes", 10, "256"),
    ("max_content_bytes", "1e6", "256"),
    ("private_features", 5, "names"),
    ("private_features", [5], "names"),
    ("content_sample_rate", 1.5, "0 to 1"),
    ("content_sample_rate", "half", "0 to 1"),
    ("content_sample_rate", True, "0 to 1"),
    ("content_sample_rate", float("nan"), "0 to 1"),
    ("mask", "secrets", "app.privacy:mask"),
    ("mask", 5, "app.privacy:mask"),
    ("mask", "no.such.module:mask", "no.such.module:mask cannot be imported"),
    ("mask", "json:__name__", "app.privacy:mask"),
    ("media", "some", "placeholder"),
    ("media", "no.such.module:store", "no.such.module:store cannot be imported"),
    ("media", "json:no_such_function", "AttributeError"),
    ("media", "json:__name__", "full"),
    ("media", ":", "full"),
    ("hash_user_ids", "short", "16 characters"),
    ("features", "[" * 100_000, "expected attributes"),
    ("features", {"http.route": "/x"}, "expected attributes"),
    ("features", {"http.route": {"/x": 5}}, "expected attributes"),
    ("features", {}, "expected attributes"),
    ("baggage_send", "feature,password", "expected a comma-separated list"),
    ("baggage_accept", 5, "expected a comma-separated list"),
    ("baggage_accept", "group.", "expected a comma-separated list"),
    ("sample_rate", 1.5, "from 0 to 1"),
    ("sample_rate", "10%", "from 0 to 1"),
    ("sample_rate", "nan", "from 0 to 1"),
    ("sample_rate", True, "from 0 to 1"),
    ("sample_rate", "0.1,0.2", "each feature once"),
    ("sample_rate", "meme=1,meme=0", "each feature once"),
    ("sample_rate", "=1", "from 0 to 1"),
    ("sample_rate", ",", "from 0 to 1"),
    ("sample_rate", {}, "from 0 to 1"),
    ("sample_rate", {"meme": "often"}, "from 0 to 1"),
    ("sample_rate", {5: 1.0}, "from 0 to 1"),
    ("sample_keep_cost", -1, "US dollars"),
    ("sample_keep_cost", "inf", "US dollars"),
    ("sample_keep_cost", "$5", "US dollars"),
    ("redact", "email,names", "'names' is not one of: email, phone"),
    ("redact", "", "email"),
    ("redact", [], "email"),
    ("redact", 5, "email"),
    ("redact", [5], "5 is not one of"),
    ("redact", {"employee": "E[0-9"}, "the pattern employee is no regular expression"),
    ("redact", '{"employee": "(a"}', "the pattern employee is no regular expression"),
    ("redact", {"employee": 5}, "the pattern employee"),
    ("redact", {"employee": ""}, "the pattern employee"),
    ("redact", {"email": "x"}, "'email' is no name"),
    ("redact", {"[": "x"}, "no name"),
    ("redact", '["email"', "JSON"),
    ("cost", "free", "client"),
    ("prices", "/no/such/file", "existing file"),
    ("price_updates", "sometimes", "true, false or a URL"),
    ("price_updates", "ftp://prices", "true, false or a URL"),
    ("timeout", 0, "seconds"),
    ("timeout", "soon", "seconds"),
    ("timeout", float("nan"), "seconds"),
    ("timeout", True, "seconds"),
    ("compression", "brotli", "gzip"),
    ("max_queue_bytes", -1, "8192"),
    ("max_queue_bytes", True, "8192"),
    ("flush_interval", "-1", "seconds"),
    ("max_batch_bytes", 64 * 1024 * 1024, "from 8192 to 16777216"),
    ("max_batch_bytes", 3000, "from 8192 to 16777216"),
    ("spool_max_bytes", 3000, "at least 1048576"),
    ("spool_max_bytes", "1048575", "at least 1048576"),
    ("max_retry_seconds", float("inf"), "seconds"),
    ("before_send", "print", "called"),
    ("client", object(), "posthog.Posthog"),
]


@pytest.mark.parametrize(("name", "value", "expected"), WRONG)
def test_an_invalid_argument_raises_with_its_name(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: .*{expected}"):
        resolved({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [(n, v) for n, v, _ in WRONG if isinstance(v, str) and v and n not in {"before_send", "client"}],
)
def test_an_invalid_variable_is_reported_once_and_a_safe_value_is_used(name: str, value: str) -> None:
    config, warned = resolved(None, **{PREFIX + name.upper(): value})
    option = next(option for option in OPTIONS if option.name == name)
    held = option.default if option.fallback is None or name == "endpoint" else option.fallback.value
    assert getattr(config, name) == held
    assert len(warned) == 1
    assert warned[0].startswith(PREFIX + name.upper())


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("api_key", " phc_x ", "phc_x"),
        ("endpoint", "https://eu.posthog.com", "https://eu.posthog.com"),
        ("events", "ai, llm_generation", frozenset({"ai", "llm_generation"})),
        ("capture_content", "off", False),
        ("capture_content", "TRUE", True),
        ("price_updates", "true", True),
        ("price_updates", "0", False),
        ("price_updates", "https://mirror/data.json", "https://mirror/data.json"),
        ("timeout", "2.5", 2.5),
        ("max_queue_bytes", "100000", 100_000),
        ("sample_rate", "0.1", {"*": 0.1}),
        ("sample_rate", " 0.1 , meme = 1 ,", {"*": 0.1, "meme": 1.0}),
        ("sample_rate", "meme=0", {"*": 1.0, "meme": 0.0}),
        ("sample_rate", "*=0.5,a=b=1e-3", {"*": 0.5, "a=b": 0.001}),
        ("sample_keep_cost", "0", 0.0),
        ("redact", "email, Card", {"email": None, "card": None}),
        ("redact", '["ip", {"employee": "E[0-9]{6}"}]', {"ip": None, "employee": "E[0-9]{6}"}),
        ("redact", '{"employee": "E[0-9]{6}"}', {"employee": "E[0-9]{6}"}),
        ("private_features", "diary, therapy ,", frozenset({"diary", "therapy"})),
        ("content_sample_rate", "0.25", 0.25),
        ("content_sample_rate", "0", 0.0),
        ("mask", "json:dumps", json.dumps),
        ("max_content_bytes", "256", 256),
        ("media", "Full", "full"),
        ("media", "json:dumps", json.dumps),
        ("media", "json:JSONDecoder.decode", json.JSONDecoder.decode),
    ],
)
def test_an_environment_value_is_read(name: str, text: str, value: Any) -> None:
    config, warned = resolved(None, **{PREFIX + name.upper(): text})
    assert getattr(config, name) == value
    assert warned == []


@pytest.mark.parametrize("variable", [PREFIX + "API_KEY", "POSTHOG_API_KEY", "POSTHOG_PROJECT_API_KEY"])
def test_the_key_has_several_variables(variable: str) -> None:
    assert resolved(None, **{variable: "phc_x"})[0].api_key == "phc_x"


def test_our_own_variable_wins_and_an_argument_wins_over_it() -> None:
    environ = {PREFIX + "API_KEY": "phc_own", "POSTHOG_API_KEY": "phc_other"}
    assert resolved(None, **environ)[0].api_key == "phc_own"
    assert resolved({"api_key": "phc_argument"}, **environ)[0].api_key == "phc_argument"


def test_an_empty_variable_is_an_unset_one() -> None:
    config, warned = resolved(None, **{PREFIX + "TIMEOUT": "", "POSTHOG_API_KEY": " "})
    assert (config.timeout, config.api_key, warned) == (10.0, None, [])


@pytest.mark.parametrize(
    ("word", "captured"),
    [
        ("false", False),
        ("NO_CONTENT", False),
        ("0", False),
        ("flase", False),
        ("true", True),
        ("SPAN_ONLY", True),
        ("", True),
    ],
)
def test_opentelemetrys_own_variable_can_turn_content_off(word: str, captured: bool) -> None:
    variable = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    assert resolved(None, **{variable: word})[0].capture_content is captured
    assert resolved({"capture_content": True}, **{variable: word})[0].capture_content is True


def test_a_problem_names_the_variable_and_what_an_application_does() -> None:
    problems: list[OptionProblem] = []
    environ = {
        PREFIX + "TIMEOUT": "soon",
        "POSTHOG_HOST": "posthog",
        PREFIX + "DURABILITY": "always",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "flase",
    }
    resolve({}, environ, problems.append)
    url = "is not usable: a URL such as https://us.i.posthog.com is expected"
    seconds = "is not usable: a number of seconds above zero, a year at most, is expected"
    assert problems == [
        ("POSTHOG_HOST", url, "nothing is sent until it is corrected"),
        (PREFIX + "TIMEOUT", seconds, "it is ignored"),
        (PREFIX + "DURABILITY", f"is always, which needs {PREFIX}SPOOL_DIR", "it is ignored"),
        (
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
            "is not usable: true or false is expected",
            "no content is sent until it is corrected",
        ),
    ]
    assert str(problems[1]) == f"{PREFIX}TIMEOUT {seconds}; it is ignored"


def test_an_unknown_option_is_rejected() -> None:
    with pytest.raises(TypeError, match="'api_kee'"):
        resolved({"api_kee": "phc_x"})


def test_a_price_file_may_be_a_path(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text("{}")
    assert resolved({"prices": file})[0].prices == file


def test_a_mistyped_address_sends_nothing_instead_of_sending_elsewhere() -> None:
    config, [warned] = resolved(None, POSTHOG_HOST="127.0.0.1:8765", POSTHOG_API_KEY="phc_x")
    assert config.api_key is None
    assert "nothing is sent" in warned
    assert resolved({"endpoint": "http://x"}, POSTHOG_HOST="x", POSTHOG_API_KEY="phc_x")[0].api_key == "phc_x"
