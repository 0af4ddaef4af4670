"""More requests in flight than there may be: Envoy refuses them, HAProxy lets them wait."""

from __future__ import annotations

import pytest
from balancers import KINDS, balancing

# isort: split
from balanced_servers import Loads, servers_with


@pytest.fixture(scope="module")
def server():
    with servers_with(()) as (server,):
        yield server


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [2, 950])
def test_requests_beyond_the_limit(server, tmp_path, kind, most):
    with balancing(kind, tmp_path, "--max-requests", most, server.address, servers=1) as balancer:
        loads = Loads(balancer.address, connections=2, in_flight=8)
        loads.more(200)
        failed = loads.stop()
    if kind == "envoy" and most == 2:
        assert failed.keys() == {"UNAVAILABLE"}
    else:
        assert not failed
