"""Every request that the installed SDK can make is a call to a model, or is known to be none."""

from __future__ import annotations

import re
from pathlib import Path

import openai
import pytest

from instrumentors.openai.endpoints import ENDPOINTS, find_endpoint, normalize_path
from tests.instrumentors.cases.openai import CASES

_NO_CALLS = {
    "/agents": "runs agents at OpenAI; the sessions are listed, and their calls are OpenAI's",
    "/assistants": "stores assistants",
    "/audio/voice_consents": "stores a consent",
    "/audio/voices": "stores a voice",
    "/batches": "starts a batch, whose answers are a file",
    "/chat/completions/{completion_id}": "changes the metadata of a stored answer",
    "/chatkit": "opens a session of a browser",
    "/containers": "stores files",
    "/content_provenance_checks": "looks for a watermark; has no tokens",
    "/conversations": "stores messages",
    "/evals": "runs evaluations at OpenAI",
    "/files": "stores files",
    "/fine_tuning": "trains, and checks graders",
    "/live": "opens or steers a session of a WebSocket",
    "/organization": "administers",
    "/projects": "administers",
    "/realtime": "opens or steers a session of a WebSocket",
    "/responses/input_tokens": "counts tokens, and generates none",
    "/responses/{response_id}/cancel": "cancels an answer",
    "/skills": "stores skills",
    "/threads": "runs assistants at OpenAI; their calls are OpenAI's",
    "/uploads": "stores files",
    "/vaults": "stores credentials",
    "/vector_stores": "stores and searches texts",
    "/videos": "starts a job, whose answer is a file; has no tokens",
    "/webhook_endpoints": "administers",
}
"""Paths, or the first part of paths, that are no calls to a model, and why."""

_POST = re.compile(
    r'(?:self\._post|self\._get_api_list)\(\s*(?:path_template\(\s*)?f?"(?P<path>[^"]+)"'
    r'(?P<rest>(?:(?!self\._).)*?(?:method="(?P<method>\w+)"|\n    (?:async )?def |\Z))',
    re.DOTALL,
)


def _posted_paths() -> set[str]:
    resources = Path(openai.__file__).with_name("resources")
    return {
        found["path"].partition("?")[0]
        for file in resources.rglob("*.py")
        for found in _POST.finditer(file.read_text())
        if "_post(" in found[0] or found["method"] == "post"
    }


def test_every_path_that_the_sdk_posts_to_is_an_endpoint_or_known_to_be_no_call() -> None:
    paths = _posted_paths()
    assert paths >= {"/chat/completions", "/responses", "/embeddings", "/files"}
    known = tuple(_NO_CALLS)
    unknown = {path for path in paths if path not in ENDPOINTS and not path.startswith(known)}
    assert unknown == set(), (
        f"add {sorted(unknown)} to ENDPOINTS in instrumentors/openai/endpoints.py if it is a call to a "
        "model, else to _NO_CALLS in tests/instrumentors/test_endpoints.py"
    )


def test_every_operation_has_a_case() -> None:
    shown = {span.name.partition(" ")[0] for case in CASES.values() for span in case.spans}
    missing = sorted({endpoint.operation for endpoint in ENDPOINTS.values()} - shown)
    assert missing == [], f"add a case of {missing} to tests/instrumentors/cases/openai.py"


def test_no_endpoint_is_listed_as_no_call() -> None:
    assert [path for path in ENDPOINTS if path.startswith(tuple(_NO_CALLS))] == []


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize(
    "spelling",
    [
        "{}",
        "{}?beta=true",
        "{}/",
        "/v1{}",
        "https://api.openai.com/v1{}?a=b",
        "https://a.openai.azure.com/openai/deployments/gpt{}?api-version=1",
        "https://a.services.ai.azure.com/openai/v1{}",
        "https://gateway.example.com/v1beta/openai{}",
    ],
)
def test_an_endpoint_is_found_however_its_path_is_spelt(path: str, spelling: str) -> None:
    for spelt in (spelling.format(path), spelling.format(path).removeprefix("/")):
        assert find_endpoint(spelt) is ENDPOINTS[path]
        assert normalize_path(spelt) == path


@pytest.mark.parametrize(
    "path",
    [
        "/files",
        "/responses/r-1/cancel?beta=true",
        "/responses/input_tokens",
        "/chat/completions/c-1",
        "https://api.openai.com/v1/batches",
        "",
        "/",
    ],
)
def test_other_paths_are_no_calls(path: str) -> None:
    assert find_endpoint(path) is None
