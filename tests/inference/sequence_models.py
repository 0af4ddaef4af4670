"""ONNX models of sequences, and the configurations that serve them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper


def implicit_sum(dims: int = 1) -> onnx.ModelProto:
    """Add `x` to what the sequence has so far: `sum` and the state `sum_out` = `x` + `sum_in`, FP32[dims]."""
    return _model(
        [
            helper.make_node("Add", ["x", "sum_in"], ["sum_out"]),
            helper.make_node("Identity", ["sum_out"], ["sum"]),
        ],
        [_tensor("x", TensorProto.FLOAT, dims), _tensor("sum_in", TensorProto.FLOAT, dims)],
        [_tensor("sum", TensorProto.FLOAT, dims), _tensor("sum_out", TensorProto.FLOAT, dims)],
    )


IMPLICIT_SUM = """
platform: "onnxruntime_onnx"
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "sum" data_type: TYPE_FP32 dims: [ 1 ] }
instance_group { count: 2 }
sequence_batching {
  STRATEGY {}
  state { input_name: "sum_in" output_name: "sum_out" data_type: TYPE_FP32 dims: [ 1 ] }
}
"""
"""Configuration of `implicit_sum`; `STRATEGY` is to be replaced by `direct` or `oldest`."""


def controlled_sum() -> onnx.ModelProto:
    """Add up a sequence as its controls say: `sum` = READY * (`x` + (1 - START) * `sum_in`), INT32[1].

    `last` = END and `id` = CORRID are given back, so that requests see what the model was told. The sum so
    far is a state.
    """
    return _model(
        [
            helper.make_node("Sub", ["one", "START"], ["goes_on"]),
            helper.make_node("Mul", ["goes_on", "sum_in"], ["so_far"]),
            helper.make_node("Add", ["x", "so_far"], ["added"]),
            helper.make_node("Mul", ["added", "READY"], ["sum_out"]),
            helper.make_node("Identity", ["sum_out"], ["sum"]),
            helper.make_node("Identity", ["END"], ["last"]),
            helper.make_node("Identity", ["CORRID"], ["id"]),
        ],
        [
            *(_tensor(name, TensorProto.INT32, 1) for name in ("x", "START", "READY", "END", "sum_in")),
            _tensor("CORRID", TensorProto.UINT64, 1),
        ],
        [
            *(_tensor(name, TensorProto.INT32, 1) for name in ("sum", "last", "sum_out")),
            _tensor("id", TensorProto.UINT64, 1),
        ],
        [helper.make_tensor("one", TensorProto.INT32, [], [1])],
    )


CONTROLLED_SUM = """
platform: "onnxruntime_onnx"
max_batch_size: 4
input { name: "x" data_type: TYPE_INT32 dims: [ 1 ] }
output [
  { name: "sum" data_type: TYPE_INT32 dims: [ 1 ] },
  { name: "last" data_type: TYPE_INT32 dims: [ 1 ] },
  { name: "id" data_type: TYPE_UINT64 dims: [ 1 ] }
]
instance_group { count: 2 }
sequence_batching {
  STRATEGY {}
  control_input { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
  control_input { name: "READY" control { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } }
  control_input { name: "END" control { kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] } }
  control_input { name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }
  state { input_name: "sum_in" output_name: "sum_out" data_type: TYPE_INT32 dims: [ 1 ] }
}
"""
"""Configuration of `controlled_sum`; `STRATEGY` as above."""


def _tensor(name: str, kind: int, size: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["batch", size])


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "sequences", list(inputs), list(outputs), list(constants))
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
