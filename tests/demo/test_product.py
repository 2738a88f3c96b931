"""The product bare: real clients against the stand-in, no OpenTelemetry, no PostHog."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from otel_posthog.demo import product, run

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def clients() -> Iterator[product.Clients]:
    with run._clients({}, lambda _: None, 0, 0) as opened:
        yield opened


@pytest.mark.parametrize("moment", product.AFTERNOON, ids=lambda moment: f"{moment.feature}-{moment.chat_id}")
def test_each_moment_answers_or_fails_as_it_is_meant_to(
    clients: product.Clients, moment: product.Moment
) -> None:
    if moment.model is None:
        assert len(product.do(clients, moment)) > 10
    else:
        with pytest.raises(Exception, match="503"):
            product.do(clients, moment)


def test_pictures_are_pictures(clients: product.Clients) -> None:
    for feature in ("image", "meme"):
        shown = product.do(clients, product.Moment(feature, "c", "u", "a cat"))
        assert shown.startswith("[image/png, ")
        assert shown.endswith(" bytes]")


def test_the_afternoon_has_every_feature_several_people_and_one_failure() -> None:
    features = Counter(moment.feature for moment in product.AFTERNOON)
    assert features == dict.fromkeys(product.FEATURES, 3)
    assert len(features) == 8
    assert len({moment.user_id for moment in product.AFTERNOON}) >= 3
    assert len({moment.chat_id for moment in product.AFTERNOON}) >= 3
    assert [moment.model for moment in product.AFTERNOON if moment.model] == [product.NO_SUCH_MODEL]
    models = {feature.model for feature in product.FEATURES.values()}
    assert models == {"gpt-5.1", "gpt-5-mini", "gemini-3-flash-preview", "gemini-3-pro-image-preview"}


def test_playing_gives_each_moment_its_context_and_a_line_and_outlives_failures(
    clients: product.Clients,
) -> None:
    contexts: list[dict[str, Any]] = []
    said: list[str] = []

    def context(**given: Any) -> contextlib.AbstractContextManager[None]:
        contexts.append(given)
        return contextlib.nullcontext()

    played = run.play(clients, product.AFTERNOON, context, said.append)
    assert (played.calls, played.failures) == (24, ["InternalServerError"])
    assert contexts == [
        {"feature": moment.feature, "chat_id": moment.chat_id, "user_id": moment.user_id}
        for moment in product.AFTERNOON
    ]
    assert len(said) == 24
    assert said[0].startswith(" 1/24  auto_reply ")
    assert [one for one in said if "failed" in one] == [said[13]]
    assert "InternalServerError" in said[13]


@pytest.mark.parametrize(
    ("environ", "said", "stood_in"),
    [
        ({}, "a stand-in on this machine answers for OpenAI and Gemini", {"openai", "gemini"}),
        ({"OPENAI_API_KEY": "sk-x"}, "answers for Gemini (GEMINI_API_KEY not set)", {"gemini"}),
        ({"GEMINI_API_KEY": "x"}, "answers for OpenAI (OPENAI_API_KEY not set)", {"openai"}),
        ({"OPENAI_API_KEY": "sk-x", "GEMINI_API_KEY": "x"}, "the real OpenAI and Gemini", set()),
    ],
)
def test_each_service_is_real_where_its_key_is_set_and_it_says_so(
    environ: dict[str, str], said: str, stood_in: set[str]
) -> None:
    lines: list[str] = []
    with run._clients(dict(environ), lines.append, 0, 0) as clients:
        assert len(lines) == 1
        assert said in lines[0]
        where = {
            "openai": str(clients.openai.base_url),
            "gemini": str(clients.gemini._api_client._http_options.base_url),
        }
        assert {name for name, url in where.items() if "127.0.0.1" in url} == stood_in
        assert where["openai"].startswith("http://127" if "openai" in stood_in else "https://api.openai.com")


def test_loopback_goes_past_a_proxy() -> None:
    environ = {"no_proxy": "internal.example"}
    run._spare_loopback_the_proxy(environ)
    assert environ == {
        "no_proxy": "internal.example,127.0.0.1,localhost",
        "NO_PROXY": "127.0.0.1,localhost",
    }
