"""Constants of ONNX as FP16 and BF16."""

from __future__ import annotations

from typing import Any

import numpy as np

from yais.build.onnx_package import onnx_package

__all__ = ["fits_fp16", "half_tensor", "lift_constants"]

_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)


def lift_constants(graph: Any) -> None:
    """Make initializers of the FP32 constants that are nodes of a graph."""
    onnx, left = onnx_package(), []
    for node in graph.node:
        value = {each.name: each for each in node.attribute} if node.op_type == "Constant" else {}
        if "value" in value and value["value"].t.data_type == onnx.TensorProto.FLOAT:
            tensor = onnx.TensorProto()
            tensor.CopyFrom(value["value"].t)
        elif "value_float" in value:
            tensor = onnx.numpy_helper.from_array(np.float32(value["value_float"].f))
        elif "value_floats" in value:
            tensor = onnx.numpy_helper.from_array(np.asarray(value["value_floats"].floats, np.float32))
        else:
            left.append(node)
            continue
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(left)


def fits_fp16(tensor: Any) -> bool:
    """Return whether FP16 holds an FP32 constant: none is too large, and a single one does not vanish."""
    values = np.abs(onnx_package().numpy_helper.to_array(tensor))
    finite = values[np.isfinite(values)]
    # A single number is such as an epsilon; among weights one that becomes 0 does no harm.
    vanishes = finite.size == 1 and 0 < finite.item() < _SMALLEST
    return not vanishes and bool((finite <= _LARGEST).all())


def half_tensor(tensor: Any, kind: int, name: str) -> Any:
    """Return an FP32 constant as another type, under another name; what is too large is infinite then.

    Parameters
    ----------
    kind
        `TensorProto.FLOAT16` or `BFLOAT16`.
    """
    onnx = onnx_package()
    values = onnx.numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        fp16 = kind == onnx.TensorProto.FLOAT16
        halves = values.astype("<f2") if fp16 else _bfloat16(values).astype("<u2")
    return onnx.TensorProto(name=name, data_type=kind, dims=values.shape, raw_data=halves.tobytes())


def _bfloat16(values: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Return the upper halves of FP32 numbers, rounded to the nearest, to even between two."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).reshape(values.shape)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)
