"""What the tests of the RPC framework share."""

from __future__ import annotations

import pytest
from echoing import SOON


@pytest.fixture
def unhurried(monkeypatch):
    """What a server cuts off at its end has all the time there is to notice, however busy the machine is."""
    monkeypatch.setattr("yais.rpc.server._PARTING", SOON)
    monkeypatch.setattr("yais.rpc.server._NOTICE", SOON)
