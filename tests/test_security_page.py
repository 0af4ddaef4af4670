"""The page on security says what the code and the manifests do."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml

import yais
from yais.serving import trace_writer
from yais.serving.access import AccessOptions, Restriction
from yais.serving.http.options import HttpOptions

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")


def row(start: str) -> str:
    (found,) = [line for line in PAGE.splitlines() if line.startswith(f"| {start} |")]
    return found


def test_bounds_are_those_of_the_code() -> None:
    assert f"| {HttpOptions().max_input_bytes >> 30} GiB" in row("a body over HTTP, decompressed")
    limit = inspect.signature(yais.Server).parameters["max_message_bytes"].default
    assert f"; {limit >> 20} MiB in a service" in row("a message over gRPC")
    waiting, size = trace_writer._MOST_WAITING, trace_writer._MOST_BYTES
    assert f"| {waiting:,}, or {size >> 20} MiB |" in row("traces that wait to be written")


@pytest.mark.parametrize("option", ["--grpc-restricted-protocol", "--http-restricted-api"])
def test_the_command_that_is_shown_restricts_apis(option: str) -> None:
    (said,) = re.findall(rf"{option}=([a-z,-]+):admin-key=", PAGE)
    names = said.split(",")
    assert {"model-repository", "shared-memory"} < set(names)
    restriction = Restriction(tuple(names), "admin-key", "value")
    AccessOptions(grpc_restrictions=(restriction,), http_restrictions=(restriction,))


def test_the_manifests_are_as_they_are_described() -> None:
    pod = yaml.safe_load((ROOT / "k8s/base/deployment.yaml").read_text())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert f"user {pod['securityContext']['runAsUser']}" in PAGE
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    policy = yaml.safe_load((ROOT / "k8s/base/network-policy.yaml").read_text())["spec"]
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    ports = [[port["port"] for port in rule["ports"]] for rule in policy["egress"]]
    assert ports == [[53, 53], [4317, 4318]]
