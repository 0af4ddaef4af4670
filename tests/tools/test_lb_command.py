"""`yais lb render`: Envoy's configuration against its own messages, HAProxy's, and what is refused."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest
import yaml
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from yais_command import run_yais

from yais.errors import InvalidArgument
from yais.lb.server_address import ServerAddress

# Messages that are in others as `Any`: known by their names once they are imported.
for inner in (
    "filters.http.router.v3.router",
    "filters.network.http_connection_manager.v3.http_connection_manager",
    "retry.host.previous_hosts.v3.previous_hosts",
    "upstreams.http.v3.http_protocol_options",
):
    importlib.import_module(f"envoy.extensions.{inner}_pb2")

POOLS = ("--pool", "big=10.0.0.3:8001,10.0.0.4:8001", "--pool", "streams=models.example:8001")
ROUTES = ("--route-method", "ModelStreamInfer=streams", "--route-model", "resnet50=big")


def rendered(*arguments: object) -> str:
    ended = run_yais("lb", "render", *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def bootstrap(*arguments: object) -> Bootstrap:
    """Return a configuration as Envoy's message; an unknown field or a wrong type is an error."""
    text = rendered(*arguments)
    return json_format.ParseDict(yaml.safe_load(text), Bootstrap())


def refused(*arguments: object) -> str:
    ended = run_yais("lb", "render", *arguments)
    assert ended.returncode == 2 and ended.stdout == ""
    return ended.stderr


def manager_of(config: Bootstrap):
    """Return the HttpConnectionManager."""
    (listener,) = config.static_resources.listeners
    any_of = listener.filter_chains[0].filters[0].typed_config
    name = any_of.TypeName().rpartition(".")[2]
    module = importlib.import_module(
        "envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2"
    )
    manager = getattr(module, name)()
    assert any_of.Unpack(manager)
    return manager


def test_a_pool_of_addresses():
    config = bootstrap("10.0.0.1:8001", "[::1]:8002", "--port", 1234, "--max-requests", 100)
    (cluster,) = config.static_resources.clusters
    assert cluster.type == cluster.STATIC and cluster.lb_policy == cluster.LEAST_REQUEST
    endpoints = cluster.load_assignment.endpoints[0].lb_endpoints
    sockets = [each.endpoint.address.socket_address for each in endpoints]
    assert [(each.address, each.port_value) for each in sockets] == [("10.0.0.1", 8001), ("::1", 8002)]
    (limits,) = cluster.circuit_breakers.thresholds
    assert (limits.max_requests.value, limits.max_pending_requests.value) == (200, 200)
    assert config.static_resources.listeners[0].address.socket_address.port_value == 1234
    assert config.admin.address.socket_address.address == "127.0.0.1"


def test_health_decides_and_never_a_panic():
    config = bootstrap("a:1", "--health-interval", 0.5, "--health-service", "simple")
    (cluster,) = config.static_resources.clusters
    (check,) = cluster.health_checks
    assert check.grpc_health_check.service_name == "simple"
    assert check.interval.ToMilliseconds() == check.no_traffic_interval.ToMilliseconds() == 500
    assert cluster.common_lb_config.healthy_panic_threshold.value == 0
    assert cluster.common_lb_config.HasField("healthy_panic_threshold")
    assert not cluster.close_connections_on_host_health_failure  # what is in flight on it may end


@pytest.mark.parametrize(
    ("options", "timeout"),
    [((), 1000), (("--health-interval", 0.2), 1000), (("--health-timeout", 2.5), 2500)],
)
def test_a_busy_server_has_time_to_tell_its_health(options, timeout):
    (cluster,) = bootstrap("a:1", *options).static_resources.clusters
    assert cluster.health_checks[0].timeout.ToMilliseconds() == timeout
    assert f"timeout check {timeout}ms\n" in rendered("a:1", *options, "--haproxy")


def test_a_name_stands_for_all_its_servers():
    (cluster,) = bootstrap("models.example:8001").static_resources.clusters
    assert cluster.type == cluster.STRICT_DNS


def test_950_is_the_default():
    (cluster,) = bootstrap("a:1").static_resources.clusters
    assert cluster.circuit_breakers.thresholds[0].max_requests.value == 950
    assert "maxconn 950\n" in rendered("a:1", "--haproxy")


def test_routes_of_models_come_before_those_of_methods():
    config = bootstrap("10.0.0.1:8001", *POOLS, *ROUTES)
    assert [cluster.name for cluster in config.static_resources.clusters] == ["general", "big", "streams"]
    (host,) = manager_of(config).route_config.virtual_hosts
    assert [route.route.cluster for route in host.routes] == ["big", "streams", "general"]
    by_model, by_method, others = (route.match for route in host.routes)
    assert by_model.headers[0].name == "custom-metadata-model-name"
    assert by_model.headers[0].string_match.exact == "resnet50"
    assert by_method.path == "/inference.GRPCInferenceService/ModelStreamInfer"
    assert others.prefix == "/"


def test_streams_and_long_requests_are_not_ended():
    manager = manager_of(bootstrap("a:1"))
    assert manager.HasField("stream_idle_timeout") and manager.stream_idle_timeout.ToSeconds() == 0
    for route in manager.route_config.virtual_hosts[0].routes:
        assert route.route.HasField("timeout") and route.route.timeout.ToSeconds() == 0
        assert route.route.max_stream_duration.HasField("grpc_timeout_header_max")


def test_only_what_no_server_has_begun_is_tried_again():
    (host,) = manager_of(bootstrap("a:1", "--retries", 3)).route_config.virtual_hosts
    assert host.retry_policy.retry_on == "connect-failure,refused-stream,reset-before-request"
    assert host.retry_policy.num_retries.value == 3


def test_what_envoy_does_not_know_is_found_by_this_test():
    known = yaml.safe_load(rendered("a:1"))
    cluster = known["static_resources"]["clusters"][0]
    for key, value in (("lb_polic", "ROUND_ROBIN"), ("lb_policy", "BEST"), ("connect_timeout", "soon")):
        wrong = json.loads(json.dumps(known))
        wrong["static_resources"]["clusters"][0] = {**cluster, key: value}
        with pytest.raises(json_format.ParseError):
            json_format.ParseDict(wrong, Bootstrap())
    text = json.dumps(known).replace("stat_prefix", "stat_prefi")
    with pytest.raises(json_format.ParseError):
        json_format.Parse(text, Bootstrap())


@pytest.mark.parametrize("number", range(3))
def test_what_the_page_shows(number):
    page = (Path(__file__).parents[2] / "docs/load-balancing.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    yais lb render (.*)$", page.replace("\\\n", ""), re.MULTILINE)
    assert len(commands) == 3
    assert rendered(*commands[number].partition(">")[0].split())


def test_haproxy():
    lines = rendered("10.0.0.1:8001", "[::1]:8002", "--haproxy", *POOLS, *ROUTES).splitlines()
    assert "    use_backend big if { req.hdr(custom-metadata-model-name) -m str resnet50 }" in lines
    assert "    use_backend streams if { path /inference.GRPCInferenceService/ModelStreamInfer }" in lines
    assert "    default_backend general" in lines
    assert [line.split()[2] for line in lines if line.startswith("    server ")] == [
        "10.0.0.1:8001",
        "ipv6@[::1]:8002",
        "10.0.0.3:8001",
        "10.0.0.4:8001",
        "models.example:8001",
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "Missing argument 'SERVER...'"),
        (("10.0.0.1",), "got server '10.0.0.1', expected HOST:PORT"),
        (("10.0.0.1:0",), "got port 0, expected 1 to 65535"),
        (("10.0.0.1:65536",), "got port 65536, expected 1 to 65535"),
        (("a b:1",), "got host 'a b', expected an IP address or a DNS name"),
        (("a\nserver x:1",), "expected an IP address or a DNS name"),
        (("fe80::1%a:1",), "got server 'fe80::1%a:1', expected HOST:PORT"),
        (("[fe80::1%a\n]:1",), "expected an IP address or a DNS name"),
        (("a:1", "a:1"), "pool 'general': got a:1 twice, expected each server once"),
        (("a:1", "--pool", "b"), "pool: got 'b', expected NAME=HOST:PORT,HOST:PORT"),
        (("a:1", "--pool", "b="), "got server '', expected HOST:PORT"),
        (("a:1", "--pool", "b c=a:1"), "got pool 'b c', expected a letter"),
        (("a:1", "--pool", "general=b:1"), "expected 'general' first, and each name once"),
        (("a:1", "--route-model", "m=b"), "got a route to pool 'b', expected one of ['general']"),
        (("a:1", "--route-model", "m"), "route: got 'm', expected MODEL=POOL"),
        (("a:1", "--route-model", "a b=general"), "got model 'a b', expected letters"),
        (("a:1", "--route-method", "=general"), "route: got '=general', expected METHOD=POOL"),
        (("a:1", "--route-method", "a/b/c=general"), "got method 'a/b/c', expected PACKAGE.SERVICE/METHOD"),
        (("a:1", "--model-header", "Model Name"), "got model header 'Model Name', expected a name"),
        (("a:1", "--address", "a b"), "got address 'a b', expected a numeric one"),
        (("a:1", "--address", "balancer.example"), "got address 'balancer.example', expected a numeric one"),
        (("a:1", "--admin-address", "0.0.0.0:9901"), "got address '0.0.0.0:9901', expected a numeric one"),
        (("10.0.0.256:1",), "got host '10.0.0.256', expected an IP address or a DNS name"),
        (("a:1", "--max-requests", 10**10), "got max_requests=10000000000, expected 1 to 1000000"),
        (("a:1", "--max-requests", 0), "0 is not in the range x>=1"),
        (("a:1", "--retries", 11), "11 is not in the range 0<=x<=10"),
        (("a:1", "--connect-timeout", "nan"), "got connect_timeout=nan, expected seconds from 0.001 to 3600"),
        (("a:1", "--health-interval", 0), "got health_interval=0.0, expected seconds from 0.001 to 3600"),
        (("a:1", "--health-service", "a\nb"), "expected up to 100 letters"),
    ],
)
@pytest.mark.parametrize("flavour", [(), ("--haproxy",)], ids=["envoy", "haproxy"])
def test_what_is_refused(arguments, text, flavour):
    assert text in " ".join(refused(*arguments, *flavour).split()).replace("\\n", "\n")


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
def test_haproxy_takes_no_free_port(option):
    assert rendered("a:1", option, 0)  # Envoy does
    assert "got port 0, expected 1 to 65535" in refused("a:1", option, 0, "--haproxy")


@given(st.text(max_size=20))
def test_any_text_is_an_address_or_refused(text):
    try:
        server = ServerAddress.parse(text)
    except InvalidArgument:
        return
    assert ServerAddress.parse(str(server)) == server


@given(st.ip_addresses(), st.integers(1, 65535))
def test_every_numeric_address_is_taken(host, port):
    server = ServerAddress(str(host), port)
    assert server.numeric and ServerAddress.parse(str(server)) == server
