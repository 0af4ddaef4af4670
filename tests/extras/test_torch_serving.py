"""PyTorch models from a repository, served to Triton's client."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_models import Affine, Pair, Picky, export, script
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from yais.serving.server import InferenceServer, ServerOptions

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

TRITONS = """
name: "scripted" platform: "pytorch_libtorch" max_batch_size: 8 dynamic_batching { }
input [ { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 3 ] },
        { name: "INPUT__1" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 3 ] },
         { name: "OUTPUT__1" data_type: TYPE_FP32 dims: [ 3 ] } ]
parameters { key: "DISABLE_OPTIMIZED_EXECUTION" value { string_value: "true" } }
parameters { key: "INFERENCE_MODE" value { string_value: "true" } }
"""

PICKY = """
backend: "pytorch" max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 1000 }
input { name: "x" data_type: TYPE_FP32 dims: 3 } output { name: "y" data_type: TYPE_FP32 dims: 3 }
instance_group { count: 2 kind: KIND_CPU }
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository of PyTorch models."""
    root = tmp_path_factory.mktemp("models")
    ones, twos = torch.ones(2, 3), torch.full((2, 3), 2.0)
    for name in ("exported", "bounded", "scripted", "picky", "bare", "broken", "unlike", "unknown"):
        (root / name / "1").mkdir(parents=True)
    export(root / "exported/1/model.pt2", Affine(), [ones])
    export(root / "bounded/1/model.pt2", Affine(), [ones], most=3)
    script(root / "scripted/1/model.pt", Pair())
    (root / "scripted/config.pbtxt").write_text(TRITONS)
    script(root / "picky/1/model.pt", Picky())
    (root / "picky/config.pbtxt").write_text(PICKY)
    script(root / "bare/1/model.pt", Pair())
    (root / "broken/1/model.pt").write_text("no model")
    export(root / "unlike/1/model.pt2", Pair(), [ones, twos])
    (root / "unlike/config.pbtxt").write_text(PICKY)
    export(root / "unknown/1/model.pt2", Affine(), [ones])
    (root / "unknown/config.pbtxt").write_text(
        "backend: 'pytorch' parameters { key: 'ENABLE_WEIGHT_SHARING' value { string_value: 'true' } }"
    )
    return root


@contextmanager
def served(root: Path) -> Iterator[Any]:
    """Serve a repository, and return a client."""
    options = ServerOptions(
        (root,),
        grpc_address="127.0.0.1",
        grpc_port=0,
        metrics_address="127.0.0.1",
        metrics_port=None,
    )
    with (
        InferenceServer(options) as server,
        triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client,
    ):
        yield client


def ask(client: Any, model: str, **arrays: Any) -> Any:
    """Ask a model; return what it answers by name."""
    inputs = []
    for name, array in arrays.items():
        given = triton.InferInput(name, array.shape, "FP32")
        given.set_data_from_numpy(array)
        inputs.append(given)
    return client.infer(model, inputs, client_timeout=20)


def ask_picky(client: Any, number: int) -> Any:
    """Ask for a root, of a negative number for every eighth number."""
    x = np.full((1, 3), -1 if number % 8 == 0 else number**2, np.float32)
    return ask(client, "picky", x=x).as_numpy("y")


def test_models_of_both_kinds_are_served(root: Path) -> None:
    five, two = np.full((2, 3), 5, np.float32), np.full((2, 3), 2, np.float32)
    with served(root) as client:
        np.testing.assert_array_equal(
            ask(client, "exported", x=five).as_numpy("OUTPUT__0"), [[10, 11, 12]] * 2
        )
        pair = ask(client, "scripted", INPUT__0=five, INPUT__1=two)
        assert (pair.as_numpy("OUTPUT__0") == 7).all()
        assert (pair.as_numpy("OUTPUT__1") == 3).all()
        config = client.get_model_config("exported", as_json=True)["config"]
        assert (config["backend"], config["platform"]) == ("pytorch", "pytorch_libtorch")
        assert config["default_model_filename"] == "model.pt2"
        assert (config["max_batch_size"], config["instance_group"][0]["kind"]) == (4, "KIND_CPU")
        assert client.get_model_config("bounded", as_json=True)["config"]["max_batch_size"] == 3

        with ThreadPoolExecutor(8) as pool:
            futures = {number: pool.submit(ask_picky, client, number) for number in range(40)}
            for number, future in futures.items():
                if number % 8 == 0:
                    with pytest.raises(InferenceServerException, match="negative numbers are not for me"):
                        future.result(20)
                else:
                    assert (future.result(20) == number).all()
        index = {model["name"]: model for model in client.get_model_repository_index(as_json=True)["models"]}
        for name, reason in {
            "bare": "got no inputs or no outputs for model.pt, expected both",
            "broken": "PyTorch cannot load model.pt: it is no archive",
            "unlike": "unexpected tensor 'x' in the configuration of model 'unlike', the model has a, b",
            "unknown": "got parameter 'ENABLE_WEIGHT_SHARING' for model 'unknown', expected one of",
        }.items():
            assert reason in index[name]["reason"], name


def test_what_a_request_has_wrong_is_told_to_it_alone(root: Path) -> None:
    with served(root) as client:
        with pytest.raises(InferenceServerException, match="expected"):
            ask(client, "exported", x=np.ones((2, 4), np.float32))
        with pytest.raises(InferenceServerException, match="batch"):
            ask(client, "bounded", x=np.ones((4, 3), np.float32))
        assert ask(client, "bounded", x=np.ones((3, 3), np.float32)).as_numpy("OUTPUT__0").shape == (3, 3)
