"""The models that inference servers are compared with, in the form each server wants."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnx import NodeProto, TensorProto, helper, save

from benchmarks.processes import ROOT

FIRST, LARGE, FEW = "first_fp32", 150_000, 10
"""A model that gives back the first few of so many elements: 600 KB, as an image has, and little to do."""

PEERS = ROOT / "benchmarks" / "peers"

_CONFIGS = {
    "simple": """
max_batch_size: 64
input [
  { name: "INPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
  { name: "INPUT1" data_type: TYPE_INT32 dims: [ 16 ] }
]
output [
  { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
  { name: "OUTPUT1" data_type: TYPE_INT32 dims: [ 16 ] }
]
dynamic_batching { }
""",
    FIRST: f"""
max_batch_size: 8
input {{ name: "X" data_type: TYPE_FP32 dims: [ {LARGE} ] }}
output {{ name: "Y" data_type: TYPE_FP32 dims: [ {FEW} ] }}
dynamic_batching {{ }}
""",
}
"""Without the backend."""

SEQUENCE = "running_sum"
_SEQUENCE_CONFIG = """
platform: "onnxruntime_onnx"
max_batch_size: 8
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "SUM" data_type: TYPE_FP32 dims: [ 1 ] }
sequence_batching {
  oldest { max_candidate_sequences: 32 }
  state { input_name: "SUM_IN" output_name: "SUM_OUT" data_type: TYPE_FP32 dims: [ 1 ] }
}
"""


def write_onnx(repository: Path) -> None:
    """Write the models for ONNX Runtime, and `running_sum`, which adds up what a sequence sends."""
    for name in _CONFIGS:
        _write(repository, name, 'platform: "onnxruntime_onnx"')
    example = ROOT / "examples" / "models" / "simple" / "1" / "model.onnx"
    shutil.copy(example, repository / "simple" / "1" / "model.onnx")
    constants = {"starts": 0, "ends": FEW, "axes": 1}
    first = [helper.make_node("Constant", [], [name], value_ints=[at]) for name, at in constants.items()]
    first.append(helper.make_node("Slice", ["X", *constants], ["Y"]))
    _save(repository / FIRST, first, {"X": LARGE}, {"Y": FEW})
    added = [
        helper.make_node("Add", ["X", "SUM_IN"], ["SUM_OUT"]),
        helper.make_node("Identity", ["SUM_OUT"], ["SUM"]),
    ]
    _make(repository, SEQUENCE, _SEQUENCE_CONFIG)
    _save(repository / SEQUENCE, added, {"X": 1, "SUM_IN": 1}, {"SUM": 1, "SUM_OUT": 1})


def write_triton(repository: Path) -> None:
    """Write the models for Triton's Python backend."""
    for name in _CONFIGS:
        _write(repository, name, 'backend: "python"')
        shutil.copy(PEERS / "triton" / f"{name}.py", repository / name / "1" / "model.py")


def write_mlserver(folder: Path, grpc_port: int, http_port: int) -> None:
    """Write the settings of MLServer, and the one model that it is asked for."""
    settings = {"host": "127.0.0.1", "grpc_port": grpc_port, "http_port": http_port, "parallel_workers": 0}
    folder.mkdir()
    # It has no way to do without metrics on a port, but shares that of HTTP.
    settings |= {"debug": False, "metrics_endpoint": None}
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    model = {"name": "simple", "implementation": "mlserver_simple.AddSub"}
    (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    shutil.copy(PEERS / "mlserver_simple.py", folder)


def _write(repository: Path, name: str, backend: str) -> None:
    _make(repository, name, backend + _CONFIGS[name])


def _make(repository: Path, name: str, config: str) -> None:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(config, encoding="utf-8")


def _save(
    directory: Path, nodes: Sequence[NodeProto], inputs: Mapping[str, int], outputs: Mapping[str, int]
) -> None:
    """Write the ONNX model of these nodes, whose inputs and outputs are rows of so many FP32."""
    given, returned = (
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
            for name, width in tensors.items()
        ]
        for tensors in (inputs, outputs)
    )
    graph = helper.make_graph(nodes, directory.name, given, returned)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    save(model, directory / "1" / "model.onnx")
