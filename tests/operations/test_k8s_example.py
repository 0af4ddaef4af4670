"""examples/90_kubernetes: what its README renders is what a cluster would take, and its Job runs."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from manifests import ROOT, Manifest, documents, one, problems, render

from yais.serving.server import InferenceServer, ServerOptions

EXAMPLE = ROOT / "examples/90_kubernetes"
TEXT = (EXAMPLE / "README.md").read_text(encoding="utf-8")
PLAIN = re.findall(r"^    (\S.*)$", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL), re.MULTILINE)
BOXED = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def production() -> list[Manifest]:
    return render(EXAMPLE / "production")


def test_the_commands_are_those_that_render() -> None:
    assert len(PLAIN) == 6 and all(command.startswith("kubectl kustomize ") for command in PLAIN)


@pytest.mark.parametrize("command", PLAIN)
def test_what_is_shown_fits_the_schemas(command: str) -> None:
    manifests = render(ROOT / command.removeprefix("kubectl kustomize "))
    assert manifests
    assert [problem for manifest in manifests for problem in problems(manifest)] == []


@pytest.mark.parametrize("box", BOXED)
def test_commands_in_boxes_are_shell_and_name_what_is_there(box: str) -> None:
    subprocess.run(["bash", "-n"], input=box, text=True, check=True, timeout=60)
    paths = re.findall(r"\b(?:k8s|examples)/[\w./-]+", box)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_an_overlay_merges_options_and_moves_what_it_names(production: list[Manifest]) -> None:
    assert {manifest["metadata"]["namespace"] for manifest in production} == {"vision"}
    options = one(production, "ConfigMap")["data"]
    assert options["YAIS_SERVE_FRONTENDS"] == "2" and options["YAIS_SERVE_DRAIN_DELAY_SECS"] == "5"
    (trigger,) = one(production, "ScaledObject")["spec"]["triggers"]
    assert 'namespace="vision"' in trigger["metadata"]["query"]
    deployment = one(production, "Deployment")["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert "replicas" not in deployment
    assert container["image"] == "registry.example.com/vision/yais:0.1.0-cpu"
    waits = [int(options[f"YAIS_SERVE_{name}_SECS"]) for name in ("DRAIN_DELAY", "EXIT_TIMEOUT")]
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert before + sum(waits) + 10 <= pod["terminationGracePeriodSeconds"]


def test_the_job_is_a_siege_of_the_server() -> None:
    (job,) = documents((EXAMPLE / "siege.yaml").read_text(encoding="utf-8"))
    assert problems(job) == []
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["yais", "siege"]
    dev = one(render(ROOT / "k8s/overlays/dev"), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == dev["image"]
    service = one(render(ROOT / "k8s/overlays/dev"), "Service", "yais")
    grpc = next(port["port"] for port in service["spec"]["ports"] if port["name"] == "grpc")
    address, *arguments = container["args"]
    assert address == f"{service['metadata']['name']}:{grpc}"
    quick = [re.sub("--duration=.*", "--duration=1", argument) for argument in arguments]
    options = ServerOptions((ROOT / "examples/models",), "127.0.0.1", grpc_port=0, metrics_port=None)
    with InferenceServer(options) as server:
        command = [sys.executable, "-m", "yais.tools.main", "siege", server.address, *quick]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
