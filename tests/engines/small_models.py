"""Small ONNX models, made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from yais.core.tensor import DataType

ELEMENT_TYPES = {
    DataType.BOOL: TensorProto.BOOL,
    DataType.UINT8: TensorProto.UINT8,
    DataType.UINT16: TensorProto.UINT16,
    DataType.UINT32: TensorProto.UINT32,
    DataType.UINT64: TensorProto.UINT64,
    DataType.INT8: TensorProto.INT8,
    DataType.INT16: TensorProto.INT16,
    DataType.INT32: TensorProto.INT32,
    DataType.INT64: TensorProto.INT64,
    DataType.FP16: TensorProto.FLOAT16,
    DataType.FP32: TensorProto.FLOAT,
    DataType.FP64: TensorProto.DOUBLE,
    DataType.BF16: TensorProto.BFLOAT16,
    DataType.BYTES: TensorProto.STRING,
}

Shape = Sequence[int | str | None]


def tensor(name: str, datatype: DataType, shape: Shape) -> Any:
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[datatype], shape)


def model(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], **graph: Any) -> bytes:
    """Return the file of a model, in a form that old versions of ONNX Runtime read, too."""
    made = helper.make_graph(nodes, "test", inputs, outputs, **graph)
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString())


def identity(datatype: DataType, shape: Shape) -> bytes:
    """Return a model of y = x."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return model([node], [tensor("x", datatype, shape)], [tensor("y", datatype, shape)])


def three_outputs() -> bytes:
    """Return a model of sum = a + b, difference = a - b, product = a * b on FP32 rows of 2."""
    shape = ("batch", 2)
    nodes = [
        helper.make_node(operator, ["a", "b"], [output])
        for operator, output in (("Add", "sum"), ("Sub", "difference"), ("Mul", "product"))
    ]
    names = ("sum", "difference", "product")
    return model(
        nodes,
        [tensor(name, DataType.FP32, shape) for name in "ab"],
        [tensor(name, DataType.FP32, shape) for name in names],
    )


def some(datatype: DataType, shape: tuple[int, ...], seed: int = 0) -> Any:
    """Return an array of a data type with elements of all kinds."""
    random = np.random.default_rng(seed)
    if datatype is DataType.BYTES:
        array = np.empty(shape, np.object_)
        array.ravel()[:] = [f"{index}é".encode() for index in range(array.size)]
        return array
    if datatype is DataType.BOOL:
        return random.integers(0, 2, shape).astype(np.bool_)
    if datatype.numpy.kind == "f":
        return random.normal(size=shape).astype(datatype.numpy)
    limits = np.iinfo(datatype.numpy)
    return random.integers(limits.min, limits.max, shape, datatype.numpy, endpoint=True)
