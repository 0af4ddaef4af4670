"""Small ONNX models, built where a test needs one, and the directories of a model repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"

TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}
"""ONNX's element types by their names in the protocol."""

Shape = Sequence[int | str]


def tensor(name: str, datatype: str, shape: Shape) -> onnx.ValueInfoProto:
    """Describe an input or output; a dimension given as text is of any size."""
    return helper.make_tensor_value_info(name, TYPES[datatype], list(shape))


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    """Put a model together, in a form that old releases of ONNX Runtime read too."""
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), list(constants))
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def identity(datatype: str, shape: Shape = ("batch", "n")) -> onnx.ModelProto:
    """Return `X` as `Y`."""
    node = helper.make_node("Identity", ["X"], ["Y"])
    return model([node], [tensor("X", datatype, shape)], [tensor("Y", datatype, shape)])


def table(values: Sequence[int]) -> onnx.ModelProto:
    """Look the `index` up in `values`; any other index fails in the engine."""
    return model(
        [helper.make_node("Gather", ["values", "index"], ["value"])],
        [tensor("index", "INT64", ("batch", 1))],
        [tensor("value", "INT64", ("batch", 1))],
        [helper.make_tensor("values", TensorProto.INT64, [len(values)], values)],
    )


def counter() -> onnx.ModelProto:
    """Count to `times`, one by one: a model that takes as long as the request says."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["total", "one"], ["next"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [tensor("step", "INT64", ()), tensor("go", "BOOL", ()), tensor("total", "INT64", (1,))],
        [tensor("on", "BOOL", ()), tensor("next", "INT64", (1,))],
        [helper.make_tensor("one", TensorProto.INT64, [1], [1])],
    )
    return model(
        [
            helper.make_node("Squeeze", ["times"], ["trips"]),
            helper.make_node("Loop", ["trips", "true", "zero"], ["counted"], body=body),
        ],
        [tensor("times", "INT64", (1,))],
        [tensor("counted", "INT64", (1,))],
        [
            helper.make_tensor("true", TensorProto.BOOL, [], [True]),
            helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
        ],
    )


def write(
    repository: Path,
    name: str,
    content: onnx.ModelProto | bytes | None,
    config: str | None = None,
    *,
    version: str = "1",
    filename: str = "model.onnx",
    files: Mapping[str, str] | None = None,
) -> Path:
    """Write a model directory, or one more version of it; return its path.

    Parameters
    ----------
    content
        The model; None writes no version at all.
    config
        Text of the config.pbtxt, if there is to be one.
    files
        Further files in the directory of the model, by name.
    """
    directory = repository / name
    directory.mkdir(parents=True, exist_ok=True)
    if content is not None:
        path = directory / version / filename
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    if config is not None:
        (directory / "config.pbtxt").write_text(config, encoding="utf-8")
    for file, text in (files or {}).items():
        (directory / file).write_text(text, encoding="utf-8")
    return directory
