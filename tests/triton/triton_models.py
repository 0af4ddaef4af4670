"""The models of Triton's examples, and some more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gated_models import write_gated, write_python
from onnx import helper
from onnx_models import TYPES, identity, model, tensor, write
from serving_models import LABELS, serving_models

from yais.repository.control import ControlMode
from yais.serving.http.options import HttpOptions
from yais.serving.server import InferenceServer

SIMPLE = """
    platform: "onnxruntime_onnx" max_batch_size: 8 version_policy { all {} }
    input [
      { name: "INPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
      { name: "INPUT1" data_type: TYPE_INT32 dims: [ 16 ] }
    ]
    output [
      { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
      { name: "OUTPUT1" data_type: TYPE_INT32 dims: [ 16 ] }
    ]
"""

STRINGS = """
import numpy as np

class Model:
    def execute(self, inputs):
        a, b = (inputs[name].astype(np.int64) for name in ("INPUT0", "INPUT1"))
        told = lambda array: array.astype("S").astype(object)
        return {"OUTPUT0": told(a + b), "OUTPUT1": told(a - b)}
"""

SEQUENCE = """
import numpy as np

class Model:
    def initialize(self, config):
        self.sums = {}
        self.adds_id = config.name.startswith("simple_dyna")

    def execute(self, inputs):
        sums = []
        for value, start, end, ready, id_ in zip(
            *(inputs[name][:, 0].tolist() for name in ("INPUT", "START", "END", "READY", "CORRID"))
        ):
            if ready:
                self.sums[id_] = value + (0 if start else self.sums[id_])
            answer = self.sums.get(id_, 0) + (id_ if ready and end and self.adds_id else 0)
            sums.append(answer)
        return {"OUTPUT": np.array(sums, np.int32)[:, None]}
"""
"""The sum of a sequence; the `dyna` one adds the sequence's id at its end."""

SEQUENCES = """
    max_batch_size: 4
    input {{ name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] }}
    output {{ name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] }}
    backend: "python"
    sequence_batching {{
      {0}
      max_sequence_idle_microseconds: 60000000
      control_input {{ name: "START" control {{ kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] }} }}
      control_input {{ name: "END" control {{ kind: CONTROL_SEQUENCE_END int32_false_true: [ 0, 1 ] }} }}
      control_input {{ name: "READY" control {{ kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] }} }}
      control_input {{ name: "CORRID" control {{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_{1} }} }}
    }}
"""

REPEAT = """
import numpy as np

class Model:
    def execute(self, inputs):
        for index, value in enumerate(inputs["IN"].tolist()):
            if value < 0:
                raise ValueError("negative")
            yield {"OUT": np.array([value], np.int32), "IDX": np.array([index], np.uint32)}
"""

REPEATED = """
    backend: "python" model_transaction_policy { decoupled: true }
    input [ { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] } ]
    output [
      { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] },
      { name: "IDX" data_type: TYPE_UINT32 dims: [ 1 ] }
    ]
"""

OPTIONAL = """
import numpy as np

class Model:
    def execute(self, inputs):
        bias = inputs.get("bias", np.float32(100))
        names = [[" ".join(sorted(inputs))]] * len(inputs["x"])
        return {"sum": inputs["x"] + bias, "names": names}
"""

OPTIONALLY = """
    backend: "python" max_batch_size: 4
    input [
      { name: "x" data_type: TYPE_FP32 dims: [ 1 ] },
      { name: "bias" data_type: TYPE_FP32 dims: [ 1 ] optional: true }
    ]
    output [
      { name: "sum" data_type: TYPE_FP32 dims: [ 1 ] },
      { name: "names" data_type: TYPE_STRING dims: [ 1 ] }
    ]
"""

ENSEMBLE = """
    platform: "ensemble" max_batch_size: 8
    input [ { name: "A" data_type: TYPE_FP32 dims: [ -1 ] } ]
    output [ { name: "B" data_type: TYPE_FP32 dims: [ -1 ] } ]
    ensemble_scheduling { step {
      model_name: "part" model_version: -1
      input_map { key: "X" value: "A" }
      output_map { key: "Y" value: "B" }
    } }
"""

BATCHES = "max_batch_size: 8 dynamic_batching {}"

LABELLED = """
    input { name: "X" data_type: TYPE_%s dims: [ -1 ] }
    output { name: "Y" data_type: TYPE_%s dims: [ -1 ] label_filename: "labels.txt" }
"""

PRIORITIES = """
    max_batch_size: 1
    dynamic_batching {
      priority_levels: 2 default_priority_level: 2
      default_queue_policy { timeout_action: REJECT allow_timeout_override: true }
    }
"""


def fill_triton(repository: Path) -> Path:
    """Write the models; return the repository.

    simple                         as Triton's: sum and difference, two versions
    simple_string, simple_identity as Triton's: the same in text; BYTES[-1]
    simple_sequence, simple_dyna_sequence, simple_text_sequence
                                   the sum of each sequence; the last one's ids are text
    repeat_int32                   decoupled: IN[i] as OUT, IDX=i, for each i; fails below zero
    identity_<type>                X: [-1] as Y, batches of up to 8
    scores_<type>                  the same with labels
    optional                       x + bias, or + 100
    part, whole                    an identity and an ensemble of it
    gated                          x as y when its gate lets it; priorities 1 and 2, timeouts
    """
    nodes = [
        helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
        helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
    ]
    names = ("INPUT0", "INPUT1"), ("OUTPUT0", "OUTPUT1")
    inputs, outputs = ([tensor(name, "INT32", ("batch", 16)) for name in each] for each in names)
    for version in "12":
        write(repository, "simple", model(nodes, inputs, outputs), SIMPLE, version=version)
    strings = SIMPLE.replace("INT32", "STRING").replace('platform: "onnxruntime_onnx"', 'backend: "python"')
    write_python(repository, "simple_string", STRINGS, strings)
    write(repository, "simple_identity", identity("BYTES"), BATCHES)
    for name, strategy, ids in (
        ("simple_sequence", "direct {}", "UINT64"),
        ("simple_dyna_sequence", "oldest { max_candidate_sequences: 8 }", "UINT64"),
        ("simple_text_sequence", "oldest { max_candidate_sequences: 8 }", "STRING"),
    ):
        write_python(repository, name, SEQUENCE, SEQUENCES.format(strategy, ids))
    write_python(repository, "repeat_int32", REPEAT, REPEATED)
    write_python(repository, "optional", OPTIONAL, OPTIONALLY)
    for datatype in TYPES:
        write(repository, f"identity_{datatype.lower()}", identity(datatype), BATCHES)
        labelled = BATCHES + LABELLED % (_config(datatype), _config(datatype))
        write(
            repository,
            f"scores_{datatype.lower()}",
            identity(datatype),
            labelled,
            files={"labels.txt": LABELS},
        )
    write(repository, "part", identity("FP32"), BATCHES)
    write(repository, "whole", None, ENSEMBLE)
    (repository / "whole" / "1").mkdir()
    write_gated(repository, "gated", PRIORITIES)
    return repository


def _config(datatype: str) -> str:
    return "STRING" if datatype == "BYTES" else datatype


@contextmanager
def triton_server(*repositories: Path, **options: Any) -> Iterator[InferenceServer]:
    """Serve over gRPC and HTTP; clients may load models and share memory."""
    all_options = {
        "http": HttpOptions(address="127.0.0.1", port=0),
        "control": ControlMode.EXPLICIT,
        "load": ("*",),
        "allow_client_shm": True,
        **options,
    }
    with serving_models(*repositories, **all_options) as server:
        yield server
