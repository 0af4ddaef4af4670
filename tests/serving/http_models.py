"""Models for the tests of the routes of HTTP."""

from __future__ import annotations

from pathlib import Path

from gated_models import write_python
from onnx_models import identity, table, write

TELLER = '''
class Model:
    """Says `count` words after `text`, one by one; a count below 0 fails after the first."""

    def execute(self, inputs):
        count = int(inputs["count"].reshape(-1)[0])
        text = inputs["text"].reshape(-1)[0].decode()
        for number in range(abs(count)):
            if number and count < 0:
                raise ValueError("lost for words")
            yield {"word": [f"{text} {number}"]}
'''

ENDLESS = '''
from gated_models import gates

class Model:
    """Counts until it is stopped, and says so at its gate."""

    def execute(self, inputs):
        try:
            number = 0
            while True:
                yield {"number": [number], "padding": ["." * int(inputs["size"].reshape(-1)[0])]}
                number += 1
        finally:
            gates["endless"].note("ended")
'''

ENDLESS_CONFIG = """
    backend: "python" model_transaction_policy { decoupled: true }
    input { name: "size" data_type: TYPE_INT32 dims: [ 1 ] }
    output { name: "number" data_type: TYPE_INT64 dims: [ 1 ] }
    output { name: "padding" data_type: TYPE_STRING dims: [ 1 ] }
"""

TELLER_CONFIG = """
    backend: "python" model_transaction_policy { decoupled: true }
    input { name: "text" data_type: TYPE_STRING dims: [ 1 ] }
    input { name: "count" data_type: TYPE_INT32 dims: [ 1 ] }
    output { name: "word" data_type: TYPE_STRING dims: [ 1 ] }
"""

BATCHES = "max_batch_size: 8 dynamic_batching {}"


def fill_routed(repository: Path) -> Path:
    """Write the models that the tests of the routes use; return the repository.

    table    index: INT64[1] -> value, batches; fails in the engine for what is not in 0..3
    text     X: BYTES[-1] as Y, batches
    matrix   X: FP32[2, 3] as Y, without a batch dimension
    half     X: FP16[-1] as Y, batches
    teller   says words, see `TELLER`
    endless  counts until it is stopped, with `size` characters each time
    broken   cannot be loaded
    """
    write(repository, "table", table([10, 11, 12, 13]), BATCHES)
    write(repository, "text", identity("BYTES"), BATCHES)
    write(repository, "matrix", identity("FP32", (2, 3)))
    write(repository, "half", identity("FP16"), BATCHES)
    write_python(repository, "teller", TELLER, TELLER_CONFIG)
    write_python(repository, "endless", ENDLESS, ENDLESS_CONFIG)
    write(repository, "broken", b"no model")
    return repository
