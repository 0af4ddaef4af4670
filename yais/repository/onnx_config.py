"""What a configuration says to ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yais.engines.onnx_options import OnnxOptions, OnnxProvider
from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.limits import MAX_THREADS
from yais.repository.slo_config import OWN_PREFIX

__all__ = ["ONNX_PARAMETERS", "onnx_options"]

_SHRINK = "memory.enable_memory_arena_shrinkage"

ONNX_PARAMETERS = (
    "intra_op_thread_count",
    "inter_op_thread_count",
    "execution_mode",
    "enable_mem_arena",
    "enable_mem_pattern",
    _SHRINK,
    "cudnn_conv_algo_search",
    "gpu_mem_limit",
    "arena_extend_strategy",
    "do_copy_in_default_stream",
)
"""The parameters of an ONNX model, besides any "session.*" of ONNX Runtime's own."""

_GRAPH_LEVELS = {-2: -1, -1: 1, 0: 99, 1: 2, 2: 99}  # Triton's: -2 none, -1 basic, 1 extended, 2 all

_PROVIDERS = {
    ("gpu", "tensorrt"): "TensorrtExecutionProvider",
    ("gpu", "cuda"): "CUDAExecutionProvider",
    ("cpu", "openvino"): "OpenVINOExecutionProvider",
}

_TENSORRT = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "trt_engine_cache_enable": "trt_engine_cache_enable",
    "trt_engine_cache_path": "trt_engine_cache_path",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}
"""Triton's names of what TensorRT is told, and ONNX Runtime's."""

_CUDA: Mapping[str, Sequence[str]] = {
    "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested"),
    "do_copy_in_default_stream": ("0", "1"),
}
"""What Triton's numbers of a model's parameters are called by ONNX Runtime's CUDA provider."""

_PRECISIONS: Mapping[str, Mapping[str, str]] = {
    "FP32": {},
    "FP16": {"trt_fp16_enable": "1"},
    "INT8": {"trt_int8_enable": "1"},
}


def onnx_options(config: ModelConfig, gpu: int | None = None) -> OnnxOptions:
    """Return what a configuration says to ONNX Runtime.

    Parameters
    ----------
    gpu
        That the session is for; None for one on the CPUs.

    Raises
    ------
    InvalidArgument
        A parameter is unknown, or its value impossible.
    """
    for key in config.parameters:
        if key not in ONNX_PARAMETERS and not key.startswith(("session.", OWN_PREFIX)):
            expected = ", ".join(ONNX_PARAMETERS)
            raise InvalidArgument(
                f"got parameter '{key}' for model '{config.name}', expected one of {expected}, session.*"
            )
    level = config.optimization.graph.level
    if level not in _GRAPH_LEVELS:
        raise InvalidArgument(f"got optimization.graph.level {level} for '{config.name}', expected -2 to 2")
    texts = {key: parameter.string_value for key, parameter in config.parameters.items()}
    return OnnxOptions(
        intra_op_threads=_number(config, "intra_op_thread_count", 0, MAX_THREADS),
        inter_op_threads=_number(config, "inter_op_thread_count", 0, MAX_THREADS),
        parallel=bool(_number(config, "execution_mode", 0, 1)),
        graph_level=_GRAPH_LEVELS[level],
        providers=_providers(config, gpu),
        memory_arena=bool(_number(config, "enable_mem_arena", 1, 1)),
        memory_pattern=bool(_number(config, "enable_mem_pattern", 1, 1)),
        shrink_arenas=texts.get(_SHRINK, ""),
        entries={key: text for key, text in texts.items() if key.startswith("session.")},
    )


def _number(config: ModelConfig, key: str, default: int, most: int) -> int:
    if key not in config.parameters:
        return default
    text = config.parameters[key].string_value
    # The length first: there is one from which on int refuses text.
    if not text.isdecimal() or len(text) > 10 or int(text) > most:
        raise InvalidArgument(
            f"got '{text}' for parameter '{key}' of '{config.name}', expected a number from 0 to {most}"
        )
    return int(text)


def _providers(config: ModelConfig, gpu: int | None) -> tuple[OnnxProvider, ...]:
    accelerators = config.optimization.execution_accelerators
    kind = "cpu" if gpu is None else "gpu"
    every = {
        "cpu": [_provider(config, "cpu", each) for each in accelerators.cpu_execution_accelerator],
        "gpu": [_provider(config, "gpu", each) for each in accelerators.gpu_execution_accelerator],
    }
    if gpu is None:
        return tuple(every[kind])
    if not any(provider.name == "CUDAExecutionProvider" for provider in every[kind]):
        every[kind].append(OnnxProvider("CUDAExecutionProvider"))
    device = {"device_id": str(gpu)}
    cuda = _cuda(config)
    return tuple(
        OnnxProvider(
            each.name, {**(cuda if each.name == "CUDAExecutionProvider" else {}), **each.options, **device}
        )
        for each in every[kind]
    )


def _cuda(config: ModelConfig) -> Mapping[str, str]:
    """Return what the model's parameters say to the CUDA provider; Triton takes them there, too."""
    options = {
        key: names[_number(config, key, 0, len(names) - 1)]
        for key, names in _CUDA.items()
        if key in config.parameters
    }
    if "gpu_mem_limit" in config.parameters:
        text = config.parameters["gpu_mem_limit"].string_value
        if not text.isdecimal() or len(text) > 20 or not 0 < int(text) < 1 << 64:
            raise InvalidArgument(
                f"got '{text}' for parameter 'gpu_mem_limit' of '{config.name}', expected a number of bytes"
            )
        options["gpu_mem_limit"] = text
    return options


def _provider(config: ModelConfig, kind: str, accelerator: Any) -> OnnxProvider:
    name = _PROVIDERS.get((kind, accelerator.name))
    if name is None:
        known = " or ".join(f"'{known}'" for of, known in _PROVIDERS if of == kind)
        raise InvalidArgument(
            f"got {kind}_execution_accelerator '{accelerator.name}' for model '{config.name}', "
            f"expected {known}"
        )
    if accelerator.name != "tensorrt":
        return OnnxProvider(name, dict(accelerator.parameters))
    options: dict[str, str] = {}
    for key, value in accelerator.parameters.items():
        options |= _tensorrt(config, key, value)
    return OnnxProvider(name, options)


def _tensorrt(config: ModelConfig, key: str, value: str) -> Mapping[str, str]:
    if key == "precision_mode":
        if value not in _PRECISIONS:
            raise InvalidArgument(
                f"got precision_mode '{value}' for model '{config.name}', expected {', '.join(_PRECISIONS)}"
            )
        return _PRECISIONS[value]
    if key not in _TENSORRT and not key.startswith("trt_"):
        raise InvalidArgument(
            f"got parameter '{key}' of accelerator 'tensorrt' for model '{config.name}', expected "
            f"precision_mode, {', '.join(_TENSORRT)} or one of ONNX Runtime's trt_*"
        )
    return {_TENSORRT.get(key, key): value}
