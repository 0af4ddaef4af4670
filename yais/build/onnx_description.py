"""What is in an ONNX model."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

from yais.build.description import ModelDescription
from yais.build.onnx_graph import graphs
from yais.build.onnx_package import onnx_package
from yais.build.onnx_source import read_onnx
from yais.build.plan_record import Layer, Tensor

__all__ = ["describe_onnx", "onnx_tensors"]

_NAMES = {"FLOAT": "FP32", "FLOAT16": "FP16", "BFLOAT16": "BF16", "DOUBLE": "FP64", "STRING": "BYTES"}
"""Names of ONNX's data types in the KServe v2 protocol, where it has others."""


def describe_onnx(path: Path) -> ModelDescription:
    """Return what is in a model.

    Raises
    ------
    NotFound, InvalidArgument, FailedPrecondition
        See `read_onnx`.
    """
    source = read_onnx(path)
    model, types = source.model, onnx_package().TensorProto.DataType
    inputs, outputs = onnx_tensors(model)
    constants = [tensor for graph in graphs(model.graph) for tensor in graph.initializer]
    kinds = Counter(_NAMES.get(name, name) for name in (types.Name(tensor.data_type) for tensor in constants))
    others = {each.domain: each.version for each in model.opset_import if each.domain not in {"", "ai.onnx"}}
    facts: dict[str, object] = {
        "opset": source.opset,
        "other operators": [f"{k} {v}" for k, v in others.items()],
    }
    facts |= {"producer": f"{model.producer_name} {model.producer_version}".strip()}
    facts |= {"weights": [f"{count} of {kind}" for kind, count in sorted(kinds.items())]}
    return ModelDescription(
        kind="onnx",
        title="ONNX model",
        facts={name: fact for name, fact in facts.items() if fact},
        inputs=inputs,
        outputs=outputs,
        layers=tuple(
            Layer(node.name, _operator(node)) for graph in graphs(model.graph) for node in graph.node
        ),
        memory={
            "files": sum(file.stat().st_size for file in source.files),
            "weights": sum(_size(tensor, types) for tensor in constants),
        },
        notes=tuple(
            f"the number of dimensions of '{each.name}' is not known"
            for each in (*model.graph.input, *model.graph.output)
            if not each.type.tensor_type.HasField("shape")
        ),
    )


def onnx_tensors(model: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the inputs and the outputs of an `onnx.ModelProto`; inputs that are weights are none."""
    types = onnx_package().TensorProto.DataType
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in weights]
    return tuple(_tensor(each, types) for each in inputs), tuple(
        _tensor(each, types) for each in model.graph.output
    )


def _operator(node: Any) -> str:
    return f"{node.domain}.{node.op_type}" if node.domain not in {"", "ai.onnx"} else str(node.op_type)


def _tensor(value: Any, types: Any) -> Tensor:
    tensor = value.type.tensor_type
    shape = tuple(each.dim_value if each.HasField("dim_value") else -1 for each in tensor.shape.dim)
    name = types.Name(tensor.elem_type)
    return Tensor(value.name, _NAMES.get(name, name), shape)


def _size(tensor: Any, types: Any) -> int:
    """Return the bytes of a constant in device memory; 0 for text."""
    if tensor.data_type == types.Value("STRING"):
        return 0
    bits: int = onnx_package().helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * 8
    if types.Name(tensor.data_type) in {"INT4", "UINT4", "FLOAT4E2M1"}:
        bits = 4
    elements: int = math.prod(tensor.dims)
    return -(-elements * bits // 8)
