"""The pod of two services: its very commands and probes, as two processes that share memory."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from programs import ROOT, TIMEOUT, lines, server

sys.path.append(str(Path(__file__).parents[1] / "serving"))

from yais_command import yais_serve

EXAMPLE = "05_image_decode"
SLOT = 3 * 224 * 224 * 4
CLOSE = 10.0
"""Seconds for what follows the grace period of a server, as for those of k8s/base."""


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    text = (ROOT / "k8s/two-services/deployment.yaml").read_text(encoding="utf-8")
    spec: dict[str, Any] = yaml.safe_load(text)["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def inference(pod):
    (container,) = pod["initContainers"]
    return container


@pytest.fixture(scope="module")
def image(pod):
    (container,) = pod["containers"]
    return container


def options(container):
    return dict(argument.split("=", 1) for argument in container["args"])


def probed(container, port):
    """What the services that the probes of a container ask about answer on a port."""
    probes = [container[each]["grpc"] for each in container if each.endswith("Probe")]
    (declared,) = {probe["port"] for probe in probes}
    assert declared in {each["containerPort"] for each in container["ports"]}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        return [
            check(health_pb2.HealthCheckRequest(service=probe.get("service", "")), timeout=TIMEOUT).status
            for probe in probes
        ]


def test_the_commands_and_probes_of_the_pod_work(inference, image):
    name = f"yais-test-{secrets.token_hex(4)}"
    serving = health_pb2.HealthCheckResponse.SERVING
    assert inference["command"] == ["yais", "serve"] and image["command"] == ["python", "/app/service.py"]
    models = [argument.replace("/app/", f"examples/{EXAMPLE}/") for argument in inference["args"]]
    with yais_serve("--grpc-address", "0.0.0.0", *models) as running:
        target = f"--target=127.0.0.1:{running.port}"
        assert f"--target=127.0.0.1:{inference['ports'][0]['containerPort']}" in image["args"]
        arguments = [target if each.startswith("--target=") else each for each in image["args"]]
        delay = f"--drain-delay={0.1}"  # to be quick
        with server(f"{EXAMPLE}/service.py", *arguments, delay, "--name", name) as port:
            assert lines(f"{EXAMPLE}/client.py", "--port", port)[0] == "red: red 1.00"
            assert probed(inference, running.port) == [serving] * 2
            assert probed(image, port) == [serving] * 3
        assert not [each for each in os.listdir("/dev/shm") if each.startswith(name)]


def test_both_see_the_same_memory_as_the_same_user(pod, inference, image):
    assert pod["securityContext"]["runAsUser"] and "runAsUser" not in inference["securityContext"]
    assert "runAsUser" not in image["securityContext"]
    mounted = [
        {mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == "/dev/shm"}
        for container in (inference, image)
    ]
    (name,) = mounted[0] & mounted[1]
    (volume,) = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == name]
    assert volume["medium"] == "Memory"
    mebibytes = int(volume["sizeLimit"].removesuffix("Mi"))
    assert mebibytes << 20 >= 6 * int(options(image)["--slots"]) * SLOT


def test_there_is_time_for_one_to_end_after_the_other(pod, inference, image):
    assert inference["restartPolicy"] == "Always"  # a sidecar: it ends when the containers have
    assert "lifecycle" not in inference  # it would run at once
    first = image["lifecycle"]["preStop"]["sleep"]["seconds"]
    first += float(options(image)["--drain-delay"]) + float(options(image)["--grace"]) + CLOSE
    second = float(options(inference)["--exit-timeout-secs"]) + CLOSE
    assert first + second <= pod["terminationGracePeriodSeconds"]


def test_the_image_has_what_the_commands_name(inference, image):
    folder = ROOT / "examples" / EXAMPLE
    base, copied = (folder / "Dockerfile").read_text(encoding="utf-8").splitlines()[-2:]
    tag = yaml.safe_load((ROOT / "k8s/base/kustomization.yaml").read_text(encoding="utf-8"))["images"][0]
    assert (base, copied) == (f"FROM {tag['name']}:{tag['newTag']}", "COPY . /app")
    named = [image["command"][1], options(inference)["--model-repository"]]
    assert all((folder / path.removeprefix("/app/")).exists() for path in named)
