"""The manifests of k8s/ as they are written: what schemas say of them, and what they say of each other."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.core import ParameterSource
from manifests import K8S, ROOT, VERSIONS, Manifest, documents, kustomizations, problems, resources

from yais.tools.main import main

RESOURCES = sorted({path for directory in kustomizations(components=True) for path in resources(directory)})


def named(path: Path) -> str:
    return str(path.relative_to(K8S))


def read(path: str) -> Manifest:
    (manifest,) = documents((K8S / path).read_text(encoding="utf-8"))
    return manifest


@pytest.mark.parametrize("path", RESOURCES, ids=named)
@pytest.mark.parametrize("version", VERSIONS)
def test_fits_its_schema(path: Path, version: str) -> None:
    for manifest in documents(path.read_text(encoding="utf-8")):
        assert problems(manifest, version) == []


def test_every_file_belongs_to_a_kustomization() -> None:
    """Else nothing renders it, and nobody applies it."""
    apart = {"kustomization.yaml", "kind.yaml"}
    used = set(RESOURCES)
    for directory in kustomizations(components=True):
        kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text(encoding="utf-8"))
        used |= {directory / patch["path"] for patch in kustomization.get("patches", ()) if "path" in patch}
        for generator in kustomization.get("configMapGenerator", ()):
            names = [*generator.get("files", ()), *generator.get("envs", ())]
            used |= {directory / name.rpartition("=")[2] for name in names}
    files = {path for path in K8S.rglob("*") if path.suffix in {".yaml", ".env"} and path.name not in apart}
    assert files - used == set()


def changed(manifest: Manifest, path: str, value: Any) -> Manifest:
    """A manifest with something else at a path; numbers are places in lists."""
    manifest = copy.deepcopy(manifest)
    *way, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    place: Any = manifest
    for step in way:
        place = place[step]
    place[last] = value
    return manifest


CONTAINER = "spec/template/spec/containers/0"


@pytest.mark.parametrize(
    ("file", "path", "value", "said"),
    [
        ("base/deployment.yaml", f"{CONTAINER}/readinesProbe", {}, "'readinesProbe' was unexpected"),
        ("base/deployment.yaml", f"{CONTAINER}/livenessProbe/grpc/port", "grpc", "is not of type 'integer'"),
        ("base/deployment.yaml", f"{CONTAINER}/livenessProbe/grpc/servce", "x", "'servce' was unexpected"),
        ("base/deployment.yaml", "spec/selector", [], "[] is not of type 'object'"),
        ("base/deployment.yaml", "kind", "Deploymnet", "no schema"),
        ("base/network-policy.yaml", "spec/policyType", ["Ingress"], "'policyType' was unexpected"),
        ("base/pod-disruption-budget.yaml", "spec/maxUnavailable", [], "[] is not valid"),
        ("autoscaling/hpa/horizontal-pod-autoscaler.yaml", "spec/metrics/0/type", 1, "1 is not of type"),
        (
            "autoscaling/hpa/horizontal-pod-autoscaler.yaml",
            "spec/maxReplica",
            1,
            "'maxReplica' was unexpected",
        ),
        (
            "autoscaling/keda/scaled-object.yaml",
            "spec/scaleTargetReff",
            {},
            "'scaleTargetReff' was unexpected",
        ),
        (
            "autoscaling/keda/scaled-object.yaml",
            "spec/triggers",
            [{"type": "cron"}],
            "'metadata' is a required",
        ),
        ("kserve/serving-runtime.yaml", "spec/container", [], "'container' was unexpected"),
        ("kserve/serving-runtime.yaml", "spec/containers/0/imag", "x", "'imag' was unexpected"),
        (
            "kserve/inference-service.yaml",
            "spec/predictor/model/storageUrl",
            "x",
            "'storageUrl' was unexpected",
        ),
        ("monitoring/pod-monitor.yaml", "spec/podMetricsEndpoint", [], "'podMetricsEndpoint' was unexpected"),
    ],
)
def test_mistakes_are_found(file: str, path: str, value: object, said: str) -> None:
    manifest = read(file)
    assert problems(manifest) == []
    found = problems(changed(manifest, path, value))
    assert len(found) == 1 and said in found[0], found


def test_the_autoscaler_names_a_metric_that_the_adapter_has() -> None:
    adapter = yaml.safe_load((K8S / "monitoring/adapter.yaml").read_text(encoding="utf-8"))
    offered = {rule["name"]["as"] for rule in adapter["rules"]}
    wanted = read("autoscaling/hpa/horizontal-pod-autoscaler.yaml")["spec"]["metrics"]
    assert {metric["pods"]["metric"]["name"] for metric in wanted} <= offered


def test_keda_asks_for_series_that_are_recorded() -> None:
    rules = read("monitoring/rules.yaml")["spec"]["groups"]
    recorded = {rule["record"] for group in rules for rule in group["rules"] if "record" in rule}
    triggers = read("autoscaling/keda/scaled-object.yaml")["spec"]["triggers"]
    assert all(any(name in trigger["metadata"]["query"] for name in recorded) for trigger in triggers)


def test_keda_counts_the_pods_of_the_deployment_alone() -> None:
    """Prometheus has those of every namespace, of pools, and of the image service."""
    (trigger,) = read("autoscaling/keda/scaled-object.yaml")["spec"]["triggers"]
    asked = dict(re.findall(r'(\w+)=~?"([^"]*)"', trigger["metadata"]["query"]))
    assert asked.keys() == {"namespace", "pod"}
    assert re.fullmatch(asked["pod"], "yais-6c9f8d5b7-x2k4w")
    for other in ("yais-image-6c9f8d5b7-x2k4w", "yais-digits-6c9f8d5b7-x2k4w"):
        assert not re.fullmatch(asked["pod"], other)


def test_keda_falls_back_when_nothing_is_scraped() -> None:
    """Else no answer is a ratio of 0, and all but two pods go."""
    scaled = read("autoscaling/keda/scaled-object.yaml")["spec"]
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert scaled["fallback"]["replicas"] >= scaled["minReplicaCount"]


def test_every_server_has_shared_memory() -> None:
    """A container has 64 MiB at /dev/shm otherwise, which models in Python share with their processes."""
    specs = [
        read("base/deployment.yaml")["spec"]["template"]["spec"],
        read("kserve/serving-runtime.yaml")["spec"],
        read("two-services/deployment.yaml")["spec"]["template"]["spec"],
    ]
    for spec in specs:
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        for container in [*spec["containers"], *spec.get("initContainers", ())]:
            (name,) = (each["name"] for each in container["volumeMounts"] if each["mountPath"] == "/dev/shm")
            assert volumes[name]["emptyDir"]["medium"] == "Memory"


def test_network_policies_name_no_port_of_a_sidecar() -> None:
    """Plugins look names up among the containers of a pod, and some not among those that start first."""
    named = {
        port["port"]
        for rule in read("two-services/network-policy.yaml")["spec"]["ingress"]
        for port in rule["ports"]
        if isinstance(port["port"], str)
    }
    (container,) = read("two-services/deployment.yaml")["spec"]["template"]["spec"]["containers"]
    assert named <= {port["name"] for port in container["ports"]}


def environment() -> dict[str, str]:
    """Options of all ConfigMaps."""
    lines = (K8S / "base/options.env").read_text(encoding="utf-8").split()
    for directory in [*kustomizations(), ROOT / "examples/90_kubernetes/production"]:
        text = (directory / "kustomization.yaml").read_text(encoding="utf-8")
        for generator in yaml.safe_load(text).get("configMapGenerator", ()):
            lines += generator.get("literals", ())
    return dict(line.split("=", 1) for line in lines)


def test_the_options_are_those_of_yais_serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And their values are such as it takes; directories are others here."""

    def here(value: str) -> str:
        return re.sub("/.*models$", str(tmp_path), value)

    given = environment()
    assert len(given) > 5 and all(name.startswith("YAIS_SERVE_") for name in given)
    for name, value in given.items():
        monkeypatch.setenv(name, here(value))
    arguments = [*read("kserve/serving-runtime.yaml")["spec"]["containers"][0]["args"]]
    arguments += read("two-services/deployment.yaml")["spec"]["template"]["spec"]["initContainers"][0]["args"]
    with main.make_context("yais", ["serve"]) as context:
        command = main.get_command(context, "serve")
        assert command is not None
        serve = command.make_context("serve", [], parent=context)
        sources = [serve.get_parameter_source(name) for name in serve.params]
        assert sources.count(ParameterSource.ENVIRONMENT) == len(given)
        command.make_context(
            "serve", list(map(here, arguments)), parent=context
        )  # raises on one that is not there


def test_a_model_may_load_for_as_long_as_the_startup_probe_waits() -> None:
    startup = read("base/deployment.yaml")["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
    groups = read("monitoring/rules.yaml")["spec"]["groups"]
    (alert,) = (
        rule for group in groups for rule in group["rules"] if rule.get("alert") == "YaisModelNotReady"
    )
    minutes = float(alert["for"].removesuffix("m"))
    assert 60 * minutes >= startup["periodSeconds"] * startup["failureThreshold"]
