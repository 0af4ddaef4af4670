"""What configurations say to ONNX Runtime on a GPU."""

from __future__ import annotations

from typing import Any

import pytest

from yais.engines import onnx_device
from yais.engines.onnx_options import OnnxProvider
from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig, ModelInstanceGroup
from yais.repository.devices import Devices
from yais.repository.onnx_backend import load_onnx
from yais.repository.onnx_config import onnx_options


def config(**parameters: str) -> ModelConfig:
    made = ModelConfig(name="m", max_batch_size=8)
    for key, value in parameters.items():
        made.parameters[key].string_value = value
    return made


def test_tritons_parameters_of_the_cuda_provider():
    said = config(
        cudnn_conv_algo_search="1",
        gpu_mem_limit="4294967200",
        arena_extend_strategy="1",
        do_copy_in_default_stream="0",
    )
    assert onnx_options(said, 1).providers == (
        OnnxProvider(
            "CUDAExecutionProvider",
            {
                "cudnn_conv_algo_search": "HEURISTIC",
                "arena_extend_strategy": "kSameAsRequested",
                "do_copy_in_default_stream": "0",
                "gpu_mem_limit": "4294967200",
                "device_id": "1",
            },
        ),
    )
    assert onnx_options(said).providers == ()  # of instances on the CPUs


def test_the_accelerator_has_the_last_word():
    said = config(cudnn_conv_algo_search="1")
    cuda = said.optimization.execution_accelerators.gpu_execution_accelerator.add(name="cuda")
    cuda.parameters["cudnn_conv_algo_search"] = "DEFAULT"
    (provider,) = onnx_options(said, 0).providers
    assert provider.options == {"cudnn_conv_algo_search": "DEFAULT", "device_id": "0"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cudnn_conv_algo_search", "3"),
        ("arena_extend_strategy", "2"),
        ("do_copy_in_default_stream", "yes"),
        ("gpu_mem_limit", "0"),
        ("gpu_mem_limit", "much"),
        ("gpu_mem_limit", str(1 << 64)),
    ],
)
def test_values_that_are_none(key, value):
    with pytest.raises(InvalidArgument, match=f"got '{value}' for parameter '{key}' of 'm', expected"):
        onnx_options(config(**{key: value}), 0)


@pytest.mark.parametrize(("max_batch", "expected"), [(8, 8), (0, 32)])
def test_the_engine_of_a_gpu_knows_its_batch(monkeypatch, tmp_path, max_batch, expected):
    """Or the one that the configuration gets when it is completed."""
    asked: list[Any] = []
    monkeypatch.setattr(onnx_device, "load_on_gpu", lambda path, options, **more: asked.append((path, more)))
    monkeypatch.setattr(Devices, "here", lambda: Devices((0, 1), frozenset({"CUDAExecutionProvider"})))
    said = config()
    said.max_batch_size = max_batch
    said.instance_group.add(count=1, kind=ModelInstanceGroup.KIND_GPU, gpus=[1])
    load_onnx(said, "1", tmp_path / "model.onnx")
    assert asked == [(tmp_path / "model.onnx", {"gpu": 1, "max_batch": expected})]
