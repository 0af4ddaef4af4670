"""The Gateway API's manifests say what `yais lb render` says."""

from __future__ import annotations

from typing import Any

import yaml
from manifests import K8S, Manifest, documents

from yais.lb.balancer import MAX_REQUESTS, Balancer
from yais.lb.envoy import envoy_config
from yais.lb.pool import GENERAL, Pool
from yais.lb.route import MODEL_HEADER
from yais.lb.server_address import ServerAddress

POOL = Pool(GENERAL, (ServerAddress("yais", 8001),))
CONFIG = envoy_config(Balancer(pools=(POOL,)))
(CLUSTER,) = CONFIG["static_resources"]["clusters"]
SERVICE = "inference.GRPCInferenceService"


def read(name: str) -> list[Manifest]:
    return documents((K8S / "gateway" / name).read_text(encoding="utf-8"))


def milliseconds(text: str) -> float:
    return float(text.removesuffix("ms")) if text.endswith("ms") else 1000 * float(text.removesuffix("s"))


def virtual_host() -> Any:
    (chain,) = CONFIG["static_resources"]["listeners"][0]["filter_chains"]
    return chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0]


def test_the_circuit_breaker():
    (policy,) = read("backend-traffic-policy.yaml")
    (limits,) = CLUSTER["circuit_breakers"]["thresholds"]
    assert policy["spec"]["circuitBreaker"] == {
        "maxParallelRequests": limits["max_requests"],
        "maxPendingRequests": limits["max_pending_requests"],
        "maxParallelRetries": limits["max_retries"],
    }
    assert limits["max_requests"] == MAX_REQUESTS == 950


def test_health_and_retries():
    (policy,) = read("backend-traffic-policy.yaml")
    health, (check,) = policy["spec"]["healthCheck"], CLUSTER["health_checks"]
    for ours, theirs in (("interval", "interval"), ("timeout", "timeout")):
        assert milliseconds(health["active"][ours]) == milliseconds(check[theirs])
    for ours, theirs in (
        ("unhealthyThreshold", "unhealthy_threshold"),
        ("healthyThreshold", "healthy_threshold"),
    ):
        assert health["active"][ours] == check[theirs]
    assert health["panicThreshold"] == CLUSTER["common_lb_config"]["healthy_panic_threshold"]["value"]
    retry, ours = policy["spec"]["retry"], virtual_host()["retry_policy"]
    assert ",".join(retry["retryOn"]["triggers"]) == ours["retry_on"]
    assert retry["numRetries"] == ours["num_retries"]
    passive, outliers = health["passive"], CLUSTER["outlier_detection"]
    assert passive["consecutiveLocalOriginFailures"] == outliers["consecutive_local_origin_failure"]
    assert milliseconds(passive["baseEjectionTime"]) == milliseconds(outliers["base_ejection_time"])


def test_everything_hangs_together():
    (gateway,) = read("gateway.yaml")
    (gateway_class,) = read("gateway-class.yaml")
    assert gateway["spec"]["gatewayClassName"] == gateway_class["metadata"]["name"]
    name, listeners = gateway["metadata"]["name"], {each["name"] for each in gateway["spec"]["listeners"]}
    routes = [*read("grpc-route.yaml"), *read("pools/grpc-route.yaml")]
    for route in routes:
        (parent,) = route["spec"]["parentRefs"]
        assert parent["name"] == name and parent["sectionName"] in listeners
    for policy in [*read("backend-traffic-policy.yaml"), *read("client-traffic-policy.yaml")]:
        (target,) = policy["spec"]["targetRefs"]
        assert (target["kind"], target["name"]) == ("Gateway", name)
    (service,) = documents((K8S / "base/service.yaml").read_text("utf-8"))
    services = [service["metadata"]["name"] + suffix for suffix in ("", *suffixes())]
    for route in routes:
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                assert backend["name"] in services
                assert backend["port"] == service["spec"]["ports"][0]["port"]


def suffixes() -> list[str]:
    """What the pools add to the names of k8s/base."""
    files = sorted((K8S / "gateway/pools").glob("*/kustomization.yaml"))
    return [yaml.safe_load(path.read_text(encoding="utf-8"))["nameSuffix"] for path in files]


def pool_of(model: str, method: str) -> str:
    """Return where requests go, as the Gateway API has it: by the longest method, then the most headers."""
    found: list[tuple[int, int, str]] = []
    for route in [*read("grpc-route.yaml"), *read("pools/grpc-route.yaml")]:
        for rule in route["spec"]["rules"]:
            for match in rule.get("matches", [{}]):
                wanted = match.get("method", {"service": SERVICE, "method": method})
                headers = [(each["name"], each["value"]) for each in match.get("headers", ())]
                if (wanted["service"], wanted["method"]) == (SERVICE, method) and all(
                    each == (MODEL_HEADER, model) for each in headers
                ):
                    length = len(match.get("method", {}).get("method", ""))
                    found.append((length, len(headers), rule["backendRefs"][0]["name"]))
    return max(found)[2]


def test_routes_by_model_and_by_method():
    assert pool_of("simple", "ModelInfer") == "yais"
    assert pool_of("digits", "ModelInfer") == "yais-digits"
    assert pool_of("simple", "ModelStreamInfer") == "yais-streams"
    assert pool_of("digits", "ModelStreamInfer") == "yais-digits"
