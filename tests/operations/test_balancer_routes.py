"""Requests that go to a pool by the model that a header names, or by their method."""

from __future__ import annotations

import pytest
from balancers import KINDS, balancing

# isort: split
from balanced_servers import Loads, servers_with
from serving_models import SOON

from yais.protocol import kserve_pb2 as pb
from yais.rpc.client import Channels, ClientUnary

SERVER_METADATA = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name["ServerMetadata"]
NAMED = [("custom-metadata-model-name", "simple")]


@pytest.fixture(scope="module")
def servers():
    """Servers that say as their name which pool they are in."""
    with servers_with(*(("--id", pool) for pool in ("general", "by_model", "by_method"))) as servers:
        yield servers


@pytest.fixture(scope="module", params=KINDS)
def balancer(request, servers, tmp_path_factory):
    general, model, method = (server.address for server in servers)
    pools = ("--pool", f"by_model={model}", "--pool", f"by_method={method}")
    routes = ("--route-method", "ServerMetadata=by_method", "--route-model", "simple=by_model")
    at = tmp_path_factory.mktemp(request.param)
    with balancing(request.param, at, general, *pools, *routes, servers=3) as balancer:
        yield balancer


@pytest.mark.parametrize(
    ("headers", "pool"),
    [
        ([], "general"),
        (NAMED, "by_model"),
        ([("custom-metadata-model-name", "simple2")], "general"),
        ([("other-model-name", "simple")], "general"),
    ],
)
def test_the_header_names_the_model(servers, balancer, headers, pool):
    before = [server.inferences() for server in servers]
    loads = Loads(balancer.address, headers=headers)
    loads.more(50)
    assert not loads.stop()
    counts = [server.inferences() - past for server, past in zip(servers, before, strict=True)]
    assert [count > 0 for count in counts] == [pool == name for name in ("general", "by_model", "by_method")]


@pytest.mark.parametrize(("headers", "pool"), [([], "by_method"), (NAMED, "by_model")])
def test_the_method_decides_where_no_model_does(balancer, headers, pool):
    with Channels(balancer.address) as channels:
        ask = ClientUnary(channels, SERVER_METADATA, timeout=SOON)
        assert ask.call(pb.ServerMetadataRequest(), metadata=headers).name == pool
