"""Several servers without a balancer: grpc's `round_robin`, which asks them for their health."""

from __future__ import annotations

import pytest
from balanced_servers import BROKEN, Loads, servers_with
from serving_models import eventually

HEALTH_FIRST = {"balancing": "round_robin", "health_service": ""}


@pytest.fixture(scope="module")
def servers():
    with servers_with(*2 * [("--drain-delay-secs", 2)]) as servers:
        yield servers


def answers_again(server) -> None:
    """Wait until a server that was started anew gets its share."""
    server.ready()
    before = server.inferences()
    eventually(lambda: server.inferences() > before + 20)


def test_a_server_that_drains_fails_no_request(servers):
    loads = Loads([server.address for server in servers], **HEALTH_FIRST)
    loads.more(200)
    servers[0].drain()
    loads.more(200)
    servers[0].start()
    answers_again(servers[0])
    assert not loads.stop()


def test_a_server_that_is_killed_fails_what_it_had(servers):
    loads = Loads([server.address for server in servers], **HEALTH_FIRST)
    loads.more(200)
    servers[0].kill()
    loads.more(200)
    failed = loads.stop()
    # A request may still be sent to it while the client does not know: in the place of one that failed.
    assert failed.keys() <= BROKEN and failed.total() <= 2 * loads.in_flight
    later = Loads([server.address for server in servers], **HEALTH_FIRST)
    later.more(200)
    servers[0].start()
    answers_again(servers[0])
    assert not later.stop()


def test_who_does_not_look_at_health_is_sent_away_by_the_server(servers):
    """`pick_first` stays until the connection ends: what arrives in that moment is gRPC core's to refuse."""
    loads = Loads([server.address for server in servers], balancing="pick_first")
    loads.more(200)
    servers[0].drain()
    loads.more(200)
    failed = loads.stop()
    servers[0].start()
    servers[0].ready()
    assert failed.keys() <= {"CANCELLED", "UNAVAILABLE"} and failed.total() <= 2 * loads.in_flight
