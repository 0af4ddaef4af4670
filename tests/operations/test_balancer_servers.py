"""Two servers behind a real balancer, under load: one drained, one killed, one started again."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from balancers import KINDS, balancing

# isort: split
from balanced_servers import BROKEN, REQUEST, Loads, servers_with
from serving_models import SOON, eventually

from yais.protocol import kserve_pb2 as pb
from yais.rpc.client import Channels, ClientStreaming

STREAM_INFER = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name["ModelStreamInfer"]
HEALTH_INTERVAL = 0.2
DRAIN_DELAY = 4.0
"""Seconds: many times the interval, as docs/load-balancing.md says."""


@pytest.fixture(scope="module")
def servers():
    with servers_with(*2 * [("--drain-delay-secs", DRAIN_DELAY)]) as servers:
        yield servers


@pytest.fixture(scope="module", params=KINDS)
def balancer(request, servers, tmp_path_factory):
    at = tmp_path_factory.mktemp(request.param)
    addresses = [server.address for server in servers]
    health = ("--health-interval", HEALTH_INTERVAL, "--health-timeout", SOON, "--connect-timeout", SOON)
    with balancing(request.param, at, *health, *addresses, servers=2) as balancer:
        yield balancer


def restart(server, balancer) -> None:
    """Start a server anew, and wait until it gets its share."""
    server.start()
    server.ready()
    eventually(lambda: balancer.serving() == 2)
    before = server.inferences()
    eventually(lambda: server.inferences() > before + 20)


def test_requests_are_spread(servers, balancer):
    before = [server.inferences() for server in servers]
    loads = Loads(balancer.address)
    loads.more(600)
    assert not loads.stop()
    shares = [server.inferences() - past for server, past in zip(servers, before, strict=True)]
    assert sum(shares) >= 600 and min(shares) > 100


@pytest.mark.parametrize("which", [0, 1])
def test_a_server_that_drains_fails_no_request(servers, balancer, which):
    loads = Loads(balancer.address)
    loads.more(200)
    servers[which].drain()
    eventually(lambda: balancer.serving() == 1)
    loads.more(200)
    restart(servers[which], balancer)
    assert not loads.stop()


def test_streams_stay_with_a_server_that_drains(servers, balancer):
    before = [server.inferences() for server in servers]
    with ExitStack() as stack:
        channels = stack.enter_context(Channels(balancer.address))
        calls = ClientStreaming(channels, STREAM_INFER, timeout=SOON)
        streams = [stack.enter_context(calls.open()) for _ in range(8)]
        for stream in streams:
            answered(stream)
        assert all(server.inferences() > past for server, past in zip(servers, before, strict=True))
        servers[0].terminate()
        eventually(lambda: balancer.serving() == 1)
        for stream in streams:
            answered(stream)
            stream.done()
            assert stream.status.result(SOON).ok
    servers[0].ended()
    servers[0].start()
    servers[0].ready()
    eventually(lambda: balancer.serving() == 2)


def answered(stream) -> None:
    """Send a request on a stream, and take its answer."""
    stream.write(pb.ModelInferRequest.FromString(REQUEST))
    reply = next(stream)
    assert not reply.error_message and reply.infer_response.model_name == "simple"


def test_a_server_that_is_killed_fails_what_it_had(servers, balancer):
    loads = Loads(balancer.address)
    loads.more(200)
    servers[0].kill()
    loads.more(200)
    failed = loads.stop()
    # A request may still be sent to it while the balancer does not know: in the place of one that failed.
    assert failed.keys() <= BROKEN and failed.total() <= 2 * loads.in_flight
    later = Loads(balancer.address)
    later.more(200)
    eventually(lambda: balancer.serving() == 1)
    restart(servers[0], balancer)
    assert not later.stop()
