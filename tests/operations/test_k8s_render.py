"""What `kubectl apply -k` would apply: it fits the schemas, hangs together, is hardened, and ends in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from manifests import K8S, VERSIONS, Manifest, kustomizations, one, problems, render

NAME = {"app.kubernetes.io/name": "yais"}
PART = {"app.kubernetes.io/part-of": "yais"}
OVERLAYS = [K8S / "base", *sorted(path.parent for path in K8S.glob("overlays/*/kustomization.yaml"))]

DNS = {"matchExpressions": [{"key": "k8s-app", "operator": "In", "values": ["kube-dns"]}]}

KUBERNETES_GRACE = 30
"""Seconds that a pod has which does not say."""

AFTERWARDS = 10
"""Seconds for what follows the grace period: cancelling, closing models (docs/how-to/shutdown.md)."""


def named(path: Path) -> str:
    return str(path.relative_to(K8S))


@pytest.fixture(params=OVERLAYS, ids=named)
def rendered(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(request.param)


def pod_of(rendered: list[Manifest]) -> Manifest:
    spec: Manifest = one(rendered, "Deployment", "yais")["spec"]["template"]["spec"]
    return spec


def container_of(rendered: list[Manifest]) -> Manifest:
    (container,) = pod_of(rendered)["containers"]
    assert isinstance(container, dict)
    return container


def options_of(rendered: list[Manifest]) -> dict[str, str]:
    (source,) = container_of(rendered)["envFrom"]
    options: dict[str, str] = one(rendered, "ConfigMap", source["configMapRef"]["name"])["data"]
    return options


@pytest.mark.parametrize("directory", kustomizations(), ids=named)
@pytest.mark.parametrize("version", VERSIONS)
def test_fits_the_schemas(directory: Path, version: str) -> None:
    manifests = render(directory)
    assert manifests
    assert [problem for manifest in manifests for problem in problems(manifest, version)] == []


@pytest.mark.parametrize("component", ["hpa", "keda"])
def test_an_autoscaler_alone_says_how_many_there_are(component: str, tmp_path: Path) -> None:
    way = "../" * (len(tmp_path.parts) - 1) + str(K8S).removeprefix("/")
    text = f"resources: [{way}/base]\ncomponents: [{way}/autoscaling/{component}]\n"
    (tmp_path / "kustomization.yaml").write_text(text, encoding="utf-8")
    manifests = render(tmp_path)
    assert [problem for manifest in manifests for problem in problems(manifest)] == []
    deployment = one(manifests, "Deployment")
    assert "replicas" not in deployment["spec"]
    kind = {"hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject"}[component]
    assert one(manifests, kind)["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


def test_all_selectors_are_those_of_the_pods(rendered: list[Manifest]) -> None:
    deployment = one(rendered, "Deployment")["spec"]
    assert deployment["template"]["metadata"]["labels"] == NAME | PART
    assert deployment["selector"]["matchLabels"] == NAME
    services = [manifest for manifest in rendered if manifest["kind"] == "Service"]
    assert len(services) == 2 and all(service["spec"]["selector"] == NAME for service in services)
    assert one(rendered, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == NAME
    policy = one(rendered, "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == NAME
    assert policy["egress"][0]["to"][0]["podSelector"] == DNS


@pytest.mark.parametrize("pool", ["digits", "streams"])
def test_a_pool_is_a_set_of_servers_of_its_own(pool: str) -> None:
    manifests, name = render(K8S / "gateway/pools" / pool), {"app.kubernetes.io/name": f"yais-{pool}"}
    deployment = one(manifests, "Deployment", f"yais-{pool}")["spec"]
    assert deployment["selector"]["matchLabels"] == name
    assert deployment["template"]["metadata"]["labels"] == name | PART
    pod = deployment["template"]["spec"]
    assert pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] == name
    assert pod["serviceAccountName"] == one(manifests, "ServiceAccount")["metadata"]["name"]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "yais-models"
    assert one(manifests, "Service", f"yais-{pool}")["spec"]["selector"] == name
    assert one(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == name
    policy = one(manifests, "NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == name
    assert policy["egress"][0]["to"][0]["podSelector"] == DNS
    assert policy["ingress"][0]["from"][0]["podSelector"] == {}


def test_every_server_is_scraped() -> None:
    """Also those of pools, and the one beside the image service."""
    monitor = one(render(K8S / "monitoring"), "PodMonitor")["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    for directory in [*OVERLAYS, K8S / "gateway/pools", K8S / "two-services"]:
        deployments = [each["spec"]["template"] for each in render(directory) if each["kind"] == "Deployment"]
        for pod in deployments:
            assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
            containers = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())]
            ports = [port["name"] for container in containers for port in container["ports"]]
            assert ports.count(endpoint["port"]) == 1


def test_ports_and_probes_are_the_servers(rendered: list[Manifest]) -> None:
    container = container_of(rendered)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8001, "http": 8000, "metrics": 8002}
    asked = {name: container[f"{name}Probe"]["grpc"] for name in ("startup", "readiness", "liveness")}
    assert asked == {
        "startup": {"port": 8001, "service": "started"},
        "readiness": {"port": 8001},
        "liveness": {"port": 8001, "service": "live"},
    }
    for service in (manifest for manifest in rendered if manifest["kind"] == "Service"):
        assert all(port["targetPort"] in ports for port in service["spec"]["ports"])


def test_the_pod_is_hardened(rendered: list[Manifest]) -> None:
    pod, container = pod_of(rendered), container_of(rendered)
    assert pod["automountServiceAccountToken"] is False
    assert one(rendered, "ServiceAccount")["automountServiceAccountToken"] is False
    context = pod["securityContext"]
    assert context["runAsNonRoot"] and context["runAsUser"] == 10001
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_every_mount_has_its_volume(rendered: list[Manifest]) -> None:
    volumes = {volume["name"]: volume for volume in pod_of(rendered)["volumes"]}
    mounts = {mount["name"]: mount for mount in container_of(rendered)["volumeMounts"]}
    assert volumes.keys() == mounts.keys()
    claims = [volume.get("persistentVolumeClaim", {}).get("claimName") for volume in volumes.values()]
    made = [
        manifest["metadata"]["name"] for manifest in rendered if manifest["kind"] == "PersistentVolumeClaim"
    ]
    assert [claim for claim in claims if claim is not None] == made
    models = mounts["models"]
    assert models["readOnly"] and models["mountPath"] == options_of(rendered)["YAIS_SERVE_MODEL_REPOSITORY"]


@pytest.mark.parametrize("overlay", ["base", "overlays/cpu", "overlays/gpu", "overlays/gpu-mig"])
def test_cpus_are_its_own(overlay: str) -> None:
    """Guaranteed and in whole CPUs: what the CPU manager's policy `static` asks for."""
    resources = container_of(render(K8S / overlay))["resources"]
    assert resources["requests"] == resources["limits"]
    assert int(resources["limits"]["cpu"]) >= 2


def test_gpus_are_asked_for_once() -> None:
    def gpus(overlay: str) -> list[str]:
        limits = container_of(render(K8S / overlay))["resources"]["limits"]
        return [name for name in limits if name.startswith("nvidia.com/")]

    assert gpus("overlays/cpu") == []
    assert gpus("overlays/gpu") == ["nvidia.com/gpu"]
    assert gpus("overlays/gpu-mig") == ["nvidia.com/mig-1g.10gb"]


def test_images_are_those_of_the_dockerfile() -> None:
    images = {named(overlay): container_of(render(overlay))["image"] for overlay in OVERLAYS}
    assert images == {
        "base": "yais:0.1.0-cpu",
        "overlays/cpu": "yais:0.1.0-cpu",
        "overlays/dev": "yais:dev",
        "overlays/gpu": "yais:0.1.0-cuda",
        "overlays/gpu-mig": "yais:0.1.0-cuda",
    }


def seconds(container: Manifest, options: dict[str, str], name: str, default: float) -> float:
    """An option of the server, from its arguments or its environment."""
    arguments = [argument.removeprefix("--") for argument in container.get("args", ())]
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    return float(given.get(name, options.get("YAIS_SERVE_" + name.upper().replace("-", "_"), default)))


def needed(container: Manifest, options: dict[str, str]) -> float:
    """Seconds from the deletion of a pod to the end of its server."""
    before: Any = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    drain = seconds(container, options, "drain-delay-secs", 0.0)
    return float(before + drain + seconds(container, options, "exit-timeout-secs", 30.0) + AFTERWARDS)


def test_the_server_ends_before_it_is_killed(rendered: list[Manifest]) -> None:
    pod, container, options = pod_of(rendered), container_of(rendered), options_of(rendered)
    assert seconds(container, options, "drain-delay-secs", 0.0) > 0
    assert needed(container, options) <= pod["terminationGracePeriodSeconds"]


def test_the_server_of_kserve_ends_before_it_is_killed() -> None:
    """KServe's runtimes cannot say how long they have."""
    (container,) = one(render(K8S / "kserve"), "ServingRuntime")["spec"]["containers"]
    assert needed(container, {}) <= KUBERNETES_GRACE


def test_the_start_has_the_time_that_the_rollout_has(rendered: list[Manifest]) -> None:
    startup = container_of(rendered)["startupProbe"]
    deadline = one(rendered, "Deployment")["spec"]["progressDeadlineSeconds"]
    assert startup["periodSeconds"] * startup["failureThreshold"] < deadline
