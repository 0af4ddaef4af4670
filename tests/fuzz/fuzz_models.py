"""The models of the server that is attacked, and good requests to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gated_models import write_python
from onnx_models import identity, table, write
from sequence_models import IMPLICIT_SUM, implicit_sum
from serving_models import LABELS, infer_request

from yais.protocol import kserve_pb2 as pb

WORDS = '''
class Model:
    """Says up to 40 words of up to 8 KiB."""

    def execute(self, inputs):
        count, size = (abs(int(value)) for value in inputs["x"])
        for number in range(count % 41):
            yield {"word": [f"{number} " + "w" * (size % 8192)]}
'''

WORDS_CONFIG = """
    backend: "python" model_transaction_policy { decoupled: true }
    input { name: "x" data_type: TYPE_INT32 dims: [ 2 ] }
    output { name: "word" data_type: TYPE_STRING dims: [ 1 ] }
"""

BATCHES = "max_batch_size: 8 dynamic_batching {}"

LABELLED = """
    input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
    output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] label_filename: "labels.txt" }
"""

IDENTITIES = ("BOOL", "UINT8", "INT64", "FP16", "FP32", "BF16", "BYTES")

VICTIMS = ("victim", "broken")
"""The models that may be loaded and unloaded."""


def fill_fuzzed(repository: Path) -> Path:
    """Write the models; return the repository.

    identity_<type>  X: [-1] as Y, batches of up to 8
    labelled         X: FP32[-1] as Y, with labels, batches
    fixed            X: INT32[2, 3] as Y
    table            index: INT64[1] -> value, batches; fails in the engine for what is not in 0..3
    sum              the sum of each sequence
    words            decoupled, see above
    victim           X: FP32[-1] as Y
    broken           cannot be loaded
    """
    for datatype in IDENTITIES:
        write(repository, f"identity_{datatype.lower()}", identity(datatype), BATCHES)
    write(repository, "labelled", identity("FP32"), BATCHES + LABELLED, files={"labels.txt": LABELS})
    write(repository, "fixed", identity("INT32", (2, 3)))
    write(repository, "table", table([10, 11, 12, 13]), BATCHES)
    config = IMPLICIT_SUM.replace("STRATEGY {}", "max_sequence_idle_microseconds: 20000 direct {}")
    write(repository, "sum", implicit_sum(), config)
    write_python(repository, "words", WORDS, WORDS_CONFIG)
    write(repository, "victim", identity("FP32"), BATCHES)
    write(repository, "broken", b"no model")
    return repository


def good_requests() -> list[pb.ModelInferRequest]:
    """Return a good request for each model, in some variety."""
    integers = np.arange(16, dtype=np.int32).reshape(1, 16)
    floats = np.array([[1.5, -2.0, 0.25]], np.float32)
    texts = np.array([[b"a", b"", b"c\0d"]], np.object_)
    two = {"INPUT0": integers, "INPUT1": integers}
    typed = pb.ModelInferRequest(model_name="simple", id="typed")
    for name in ("INPUT0", "INPUT1"):
        tensor = typed.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        tensor.contents.int_contents.extend(range(16))
    asked = infer_request("simple", two, id="asked", model_version="1")
    asked.outputs.add(name="OUTPUT1")
    asked.parameters["priority"].uint64_param = 1
    asked.parameters["timeout"].int64_param = 1_000_000
    asked.parameters["mine"].string_param = "x"
    classified = infer_request("labelled", {"X": floats}, id="classified")
    classified.outputs.add(name="Y").parameters["classification"].int64_param = 2
    sequence = infer_request("sum", {"x": np.array([[1.0]], np.float32)}, id="sequence")
    sequence.parameters["sequence_id"].int64_param = 7
    for flag in ("sequence_start", "sequence_end"):
        sequence.parameters[flag].bool_param = True
    words = infer_request("words", {"x": np.array([3, 10], np.int32)}, id="words")
    words.parameters["triton_enable_empty_final_response"].bool_param = True
    return [
        infer_request("simple", two, id="1"),
        *(typed, asked, classified, sequence, words, shared_request()),
        infer_request("identity_bool", {"X": np.array([[True, False]])}),
        infer_request("identity_uint8", {"X": np.arange(4, dtype=np.uint8).reshape(2, 2)}),
        infer_request("identity_int64", {"X": np.zeros((1, 0), np.int64)}),
        infer_request("identity_fp16", {"X": floats.astype(np.float16)}),
        infer_request("identity_fp32", {"X": floats}),
        infer_request("identity_fp32", {"X": np.zeros((1, 2000), np.float32)}, id="long"),
        infer_request("identity_bf16", {"X": np.zeros((1, 2), np.uint16)}, datatype="BF16"),
        infer_request("identity_bytes", {"X": texts}),
        infer_request("fixed", {"X": np.zeros((2, 3), np.int32)}),
        infer_request("table", {"index": np.array([[2]], np.int64)}),
    ]


REGION = "fuzzed"
"""A region of shared memory that is registered."""

REGION_SIZE = 256


def shared_request() -> pb.ModelInferRequest:
    """Return a request whose tensors are in that region."""
    request = pb.ModelInferRequest(model_name="identity_fp32", id="shared")
    tensor = request.inputs.add(name="X", datatype="FP32", shape=[1, 8])
    for place, offset in ((tensor, 0), (request.outputs.add(name="Y"), 64)):
        place.parameters["shared_memory_region"].string_param = REGION
        place.parameters["shared_memory_offset"].int64_param = offset
        place.parameters["shared_memory_byte_size"].int64_param = 32
    return request
