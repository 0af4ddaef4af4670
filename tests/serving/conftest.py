"""One server for the tests of a file that do not change it, with all models."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tritonclient.grpc as triton
from onnx_models import EXAMPLES
from serving_models import Wire, fill, serving_models

from yais.serving.server import InferenceServer

sys.path.append(str(Path(__file__).parents[1] / "inference"))  # models of sequences


@pytest.fixture(scope="module")
def model_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the models that `fill` writes."""
    return fill(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(model_repository: Path) -> Iterator[InferenceServer]:
    """A server of these models and of the examples."""
    with serving_models(EXAMPLES, model_repository, metrics_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: InferenceServer) -> Iterator[triton.InferenceServerClient]:
    """Triton's client."""
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected


@pytest.fixture(scope="module")
def wire(server: InferenceServer) -> Iterator[Wire]:
    """Calls with messages made by hand."""
    with Wire(server.port) as connected:
        yield connected
