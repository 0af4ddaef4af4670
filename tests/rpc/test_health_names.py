"""The names of the health service that every server has: the whole, `started` and `live`."""

from __future__ import annotations

import pytest

from yais.rpc.health import LIVE, STARTED, Health


def reported(health: Health) -> tuple[bool, bool, bool]:
    return health.serving(), health.serving(STARTED), health.serving(LIVE)


def test_before_anything_is_reported_it_is_live_only() -> None:
    assert reported(Health()) == (False, False, True)


def test_who_serves_has_started_and_stays_so() -> None:
    health = Health()
    health.report(serving=True)
    assert reported(health) == (True, True, True)
    health.report(serving=False)
    assert reported(health) == (False, True, True)


@pytest.mark.parametrize("service", [STARTED, LIVE, "shop.News"])
def test_a_name_is_reported_by_itself(service: str) -> None:
    health = Health()
    health.report(serving=True, service=service)
    assert health.serving(service) and not health.serving()
    health.report(serving=False, service=service)
    assert not health.serving(service)


def test_a_shutdown_ends_what_serves_and_nothing_else() -> None:
    health = Health()
    health.report(serving=True)
    health.report(serving=True, service="shop.News")
    health.enter_shutdown()
    health.report(serving=True)
    assert reported(health) == (False, True, True) and not health.serving("shop.News")


def test_who_is_not_live_stays_so_in_the_shutdown() -> None:
    health = Health()
    health.report(serving=False, service=LIVE)
    health.enter_shutdown()
    assert not health.serving(LIVE)
