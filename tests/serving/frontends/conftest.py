"""Servers with frontend processes, for the tests here and for those that are run again against them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tritonclient.grpc as triton

for folder in ("serving", "inference", "rpc", "triton"):
    sys.path.append(str(Path(__file__).parents[2] / folder))

from frontend_servers import frontends_serving  # noqa: E402
from onnx_models import EXAMPLES  # noqa: E402
from serving_models import Wire, fill  # noqa: E402

from yais.serving.frontends.supervisor import Supervisor  # noqa: E402


@pytest.fixture(scope="module")
def model_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the models that `fill` writes."""
    return fill(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(model_repository: Path) -> Iterator[Supervisor]:
    """A server of these models and of the examples."""
    with frontends_serving(EXAMPLES, model_repository, metrics_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Supervisor) -> Iterator[triton.InferenceServerClient]:
    """Triton's client."""
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected


@pytest.fixture(scope="module")
def wire(server: Supervisor) -> Iterator[Wire]:
    """Calls with messages made by hand."""
    with Wire(server.port) as connected:
        yield connected
