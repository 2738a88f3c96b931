"""`compose.yaml`, the Kubernetes manifests and the Containerfile: valid, and consistent with the code."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import compose_spec
import kubernetes_validate
import pytest
import yaml

from otel_posthog.config.options import OPTIONS
from otel_posthog.gateway.settings import add_arguments, settings_of
from tests.support.collector import CONFIGS

MANIFESTS = sorted((CONFIGS / "kubernetes").glob("*.yaml"))
# The newest version with schemas, and the oldest that has every used field without a feature gate.
VERSIONS = (kubernetes_validate.latest_version(), "1.30.0")
TOKEN = "a-token-of-the-gateway"
OURS = {name for option in OPTIONS for name in option.variables} | {"OTEL_POSTHOG_GATEWAY_TOKEN"}


def objects(kind: str | None = None) -> Iterator[dict[str, Any]]:
    for file in MANIFESTS:
        for each in yaml.safe_load_all(file.read_text()):
            if kind is None or each["kind"] == kind:
                yield each


def gateway() -> dict[str, Any]:
    [deployment] = objects("Deployment")
    pod: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return pod


def of_container(words: list[str]) -> argparse.Namespace:
    """Return the arguments that the image's entry point parses from these words."""
    text = (CONFIGS / "Containerfile").read_text()
    entry = re.search(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
    assert entry is not None
    program, command, *arguments = yaml.safe_load(entry[1])
    assert (program, command) == ("otel-posthog", "gateway")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args([*arguments, *words])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_manifests_are_valid(file: Path, version: str) -> None:
    for each in yaml.safe_load_all(file.read_text()):
        kubernetes_validate.validate(each, version, strict=True)


def test_an_invalid_manifest_fails_the_check() -> None:
    [budget] = objects("PodDisruptionBudget")
    budget["spec"]["maxUnavailble"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(budget, VERSIONS[0], strict=True)


def filled_in(text: str) -> str:
    """Return the file with the variables filled in: their defaults, or some value if one is required."""
    return re.sub(r"\$\{[A-Z_]+:([-?])([^}]*)\}", lambda match: match[2] if match[1] == "-" else "x", text)


def test_the_compose_file_is_valid_and_mounts_existing_files() -> None:
    text = (CONFIGS / "compose.yaml").read_text()
    compose_spec.PyCompose.from_yaml(filled_in(text))
    services = yaml.safe_load(text)["services"]
    for name in ("collector", "gateway"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (CONFIGS / source).is_file()
    build = services["gateway"]["build"]
    assert (CONFIGS / build["context"] / build["dockerfile"]).is_file()


def test_the_image_listens_beyond_loopback_and_only_with_a_token() -> None:
    settings = settings_of(of_container([]), {"OTEL_POSTHOG_GATEWAY_TOKEN": TOKEN})
    assert (settings.host, settings.port, settings.grpc_port) == ("0.0.0.0", 4318, 4317)
    with pytest.raises(ValueError, match="token"):
        settings_of(of_container([]), {})


def test_the_image_copies_existing_files() -> None:
    text = (CONFIGS / "Containerfile").read_text()
    copied = [shlex.split(line)[1:-1] for line in text.splitlines() if line.startswith("COPY ")]
    sources = [word for words in copied if not words[0].startswith("--from") for word in words]
    # The wheel is built before; everything else is in the repository.
    assert [each for each in sources if not (CONFIGS.parent / each).exists()] == ["dist/*.whl"]
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)


def test_the_pods_of_the_gateway_match_the_image() -> None:
    pod = gateway()
    [container] = pod["containers"]
    settings = settings_of(of_container(container["args"]), {"OTEL_POSTHOG_GATEWAY_TOKEN": TOKEN})
    assert {each["name"]: each["containerPort"] for each in container["ports"]} == {
        "otlp-http": settings.port,
        "otlp-grpc": settings.grpc_port,
    }
    assert pod["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    pre_stop = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    timeout = next(option.default for option in OPTIONS if option.name == "timeout")
    assert pod["terminationGracePeriodSeconds"] > pre_stop + settings.shutdown_seconds + timeout


def test_variables_exist_and_secrets_come_from_the_secret() -> None:
    [container] = gateway()["containers"]
    [secret] = objects("Secret")
    assert {each["name"] for each in container["env"]} <= OURS
    named = {each["valueFrom"]["secretKeyRef"]["key"] for each in container["env"] if "valueFrom" in each}
    assert named == set(secret["stringData"])
    services = yaml.safe_load((CONFIGS / "compose.yaml").read_text())["services"]
    assert set(services["gateway"]["environment"]) <= OURS


@pytest.mark.parametrize("config", ["gateway.yaml"])
def test_a_collectors_variables_are_those_of_its_configuration(config: str) -> None:
    text = (CONFIGS / config).read_text()
    known = set(re.findall(r"\$\{env:([A-Z_0-9]+)", text))
    [collector] = objects("StatefulSet")
    [container] = collector["spec"]["template"]["spec"]["containers"]
    services = yaml.safe_load((CONFIGS / "compose.yaml").read_text())["services"]
    assert {each["name"] for each in container["env"]} <= known
    assert set(services["collector"]["environment"]) <= known
    version = re.search(
        r"^  version: (.*)$", (CONFIGS.parent / ".ci/collector/builder.yaml").read_text(), re.MULTILINE
    )
    assert version is not None
    images = {container["image"], services["collector"]["image"]}
    assert images == {f"docker.io/otel/opentelemetry-collector-contrib:{version[1]}"}


def test_selectors_find_the_pods() -> None:
    labels = {
        tuple(each["spec"]["template"]["metadata"]["labels"].items())
        for kind in ("Deployment", "StatefulSet")
        for each in objects(kind)
    }
    for kind in ("Service", "PodDisruptionBudget"):
        for each in objects(kind):
            selector = each["spec"]["selector"]
            assert tuple(selector.get("matchLabels", selector).items()) in labels
