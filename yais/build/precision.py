"""The types that a network computes in."""

from __future__ import annotations

import enum
from collections.abc import Collection
from pathlib import Path
from typing import Any

from yais.build.half_precision import lower
from yais.build.onnx_graph import graphs
from yais.build.onnx_package import onnx_package
from yais.build.onnx_source import OnnxSource
from yais.errors import InvalidArgument

__all__ = ["Precision", "in_precision"]

_QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})

_HOW_TO_QUANTISE = (
    "quantise it first, with QuantizeLinear and DequantizeLinear around what is to be computed in INT8: "
    "onnxruntime.quantization.quantize_static(..., quant_format=QuantFormat.QDQ, activation_type=QInt8, "
    "weight_type=QInt8, extra_options={'ActivationSymmetric': True, 'QuantizeBias': False})"
)


class Precision(enum.Enum):
    """What a model's FP32 parts are computed in.

    The networks are strongly typed: the builder takes the types of the graph as they are, and the graph is
    what is converted. `FP32` leaves it alone, `INT8` too, but wants it quantised.
    """

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


def in_precision(source: OnnxSource, precision: Precision, keep: Collection[str], folder: Path) -> Path:
    """Return a file of the model in a precision: its own, or one that is written.

    Parameters
    ----------
    keep
        Names of nodes, and operators, that stay in FP32; for FP16 and BF16.
    folder
        Where to write.

    Raises
    ------
    InvalidArgument
        The model is not what the precision wants, or nothing is called as `keep` says.
    """
    operators = {node.op_type for graph in graphs(source.model.graph) for node in graph.node}
    quantised = bool(operators & _QDQ)
    half = precision in {Precision.FP16, Precision.BF16}
    if precision is Precision.INT8 and not quantised:
        raise InvalidArgument(f"{source.path} is not quantised, as int8 wants it: {_HOW_TO_QUANTISE}")
    if half and quantised:
        raise InvalidArgument(
            f"{source.path} is quantised, and cannot be converted to {precision.value} as well: build it "
            "with int8, or quantise a model that has that precision"
        )
    if keep and not half:
        raise InvalidArgument(f"got nodes to keep in FP32 with {precision.value}, expected fp16 or bf16")
    if not half:
        return source.path
    onnx = onnx_package()
    kind = onnx.TensorProto.FLOAT16 if precision is Precision.FP16 else onnx.TensorProto.BFLOAT16
    converted = _loaded(source)
    try:
        lower(converted, kind, keep)
    except InvalidArgument as error:
        raise InvalidArgument(f"{source.path}: {error}") from None
    file = folder / "model.onnx"
    # The weights beside it: a message of protobuf ends at 2 GB.
    onnx.save(converted, file, save_as_external_data=True, location="weights.bin")
    return file


def _loaded(source: OnnxSource) -> Any:
    """Return the model with types for every tensor, then with its weights."""
    onnx = onnx_package()
    model: Any = onnx.ModelProto()
    model.CopyFrom(source.model)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    try:
        model = onnx.shape_inference.infer_shapes(model)
    except Exception as error:
        raise InvalidArgument(f"{source.path}: {error}") from None
    onnx.external_data_helper.load_external_data_for_model(model, str(source.path.parent))
    return model
