"""Managers to ask: of models here, and of the same models through a server."""

import sys
from pathlib import Path

import pytest

# Models and servers to test with are made by the modules beside the tests of the server.
sys.path.append(str(Path(__file__).parents[1] / "serving"))

from both_managers import SOON, Gate, register_all, served

import yais
from yais.inference.manager import InferenceManager


@pytest.fixture(scope="module")
def gate():
    gate = Gate()
    gate.open.set()
    return gate


@pytest.fixture(scope="module")
def local(gate):
    """A manager of the models of `both_managers.register_all`."""
    with InferenceManager(max_exec_concurrency=4) as manager:
        register_all(manager, gate)
        manager.allocate()
        yield manager


@pytest.fixture(scope="module")
def server(local):
    with served(local) as running:
        yield running


@pytest.fixture(scope="module")
def remote(server):
    with yais.RemoteInferenceManager(f"127.0.0.1:{server.port}", timeout=SOON) as manager:
        yield manager


@pytest.fixture(params=["local", "remote"])
def manager(request):
    """Both managers in turn: what a test says of it holds for either."""
    return request.getfixturevalue(request.param)
