"""A running inference server with models of many kinds, and hand-made calls of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np
import pytest
from onnx_models import TYPES, counter, identity, table, write

from yais.protocol import kserve_pb2 as pb
from yais.protocol.tensor_codec import encode
from yais.serving.frontends.supervisor import Supervisor
from yais.serving.http.options import HttpOptions
from yais.serving.server import InferenceServer, ServerOptions

FRONTENDS = int(os.environ.get("YAIS_TEST_FRONTENDS", "0"))
"""Frontend processes of the servers; 0 for servers in this process. See docs/testing.md."""

one_process = pytest.mark.skipif(FRONTENDS > 0, reason="looks inside the server, which is another process")
"""Marks tests that are not run against frontends: those that look at what no metric says, or not at once."""

SOON = 60.0
"""Seconds after which a wait counts as lost: on a busy machine a server takes half of them to start."""

LABELS = "first\nsecond:half\n\nfourth\n"

_SERVICE = "/inference.GRPCInferenceService/"

_TENSORS = """
    input {{ name: "X" data_type: {0} dims: [ {1} ] }}
    output {{ name: "Y" data_type: {0} dims: [ {1} ] {2} }}
"""


def fill(repository: Path) -> Path:
    """Write the models that tests of the server use; return the repository.

    identity_<type>  X: [-1] as Y, batches of up to 8
    labelled         X: FP32[-1] as Y, the same with labels
    scores           X: FP32[-1, -1] as Y with labels, without a batch dimension
    fixed            X: INT32[2, 3] as Y, without a batch dimension
    table            index: INT64[1] -> value, batches; fails in the engine for what is not in 0..3
    counter          counts to times: INT64[1], without a batch dimension: takes as long as it is told to
    waiting          X: FP32[-1] as Y; a batch of 8 starts at once, a smaller one waits for a minute
    """
    batches = "max_batch_size: 8 dynamic_batching {}"
    labels = {"labels.txt": LABELS}
    label_field = 'label_filename: "labels.txt"'
    for datatype in TYPES:
        write(repository, f"identity_{datatype.lower()}", identity(datatype), batches)
    labelled = batches + _TENSORS.format("TYPE_FP32", "-1", label_field)
    write(repository, "labelled", identity("FP32"), labelled, files=labels)
    scores = _TENSORS.format("TYPE_FP32", "-1, -1", label_field)
    write(repository, "scores", identity("FP32"), scores, files=labels)
    write(repository, "fixed", identity("INT32", (2, 3)))
    write(repository, "table", table([10, 11, 12, 13]), batches)
    write(repository, "counter", counter())
    patient = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 60000000 }"
    write(repository, "waiting", identity("FP32"), patient)
    return repository


@contextmanager
def serving_models(*repositories: Path, **options: Any) -> Iterator[InferenceServer | Supervisor]:
    """Serve the models of repositories on free ports while the block lasts.

    Without metrics, unless a port for them is given: their server takes half a second to stop.
    """
    defaults = {
        "grpc_address": "127.0.0.1",
        "grpc_port": 0,
        "metrics_address": "127.0.0.1",
        "metrics_port": 0 if FRONTENDS else None,  # what tests cannot see inside is there
        "http": HttpOptions("127.0.0.1", 0) if FRONTENDS else None,  # see `serving_http`
        "frontends": FRONTENDS,
    }
    all_options = ServerOptions(repositories, **{**defaults, **options})
    kind = Supervisor if all_options.frontends else InferenceServer
    with kind(all_options) as server:
        yield server


class Wire:
    """Calls RPCs of the service with messages made by hand, on a connection of its own."""

    def __init__(self, port: int) -> None:
        options = (
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        )
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.channel.close()

    def method(self, rpc: str) -> grpc.UnaryUnaryMultiCallable:
        """Return an RPC that takes a message, or what is to be sent in its stead, and returns bytes."""
        return self.channel.unary_unary(_SERVICE + rpc, request_serializer=_serialized)

    def call(self, rpc: str, request: Any = b"") -> Any:
        """Call an RPC; return its response."""
        answer = getattr(pb, f"{rpc}Response")
        return answer.FromString(self.method(rpc)(request, timeout=SOON))

    def infer(self, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        """Call ModelInfer."""
        response: pb.ModelInferResponse = self.call("ModelInfer", request)
        return response

    def refusal(self, request: Any, rpc: str = "ModelInfer") -> tuple[grpc.StatusCode, str]:
        """Call what must fail; return code and text."""
        with pytest.raises(grpc.RpcError) as caught:
            self.method(rpc)(request, timeout=SOON)
        return caught.value.code(), caught.value.details()


def _serialized(request: Any) -> bytes:
    return request if isinstance(request, bytes) else request.SerializeToString()


def infer_request(
    model: str, inputs: Mapping[str, np.ndarray], datatype: str | None = None, **fields: Any
) -> pb.ModelInferRequest:
    """Make a ModelInferRequest with raw contents.

    Parameters
    ----------
    datatype
        Of all inputs; what numpy calls theirs by default.
    fields
        Further fields of the message.
    """
    request = pb.ModelInferRequest(model_name=model, **fields)
    for name, array in inputs.items():
        kind = datatype or {"b": "BOOL", "u": "UINT", "i": "INT", "f": "FP", "O": "BYTES"}[array.dtype.kind]
        bits = str(array.itemsize * 8) if datatype is None and array.dtype.kind in "uif" else ""
        request.inputs.add(name=name, datatype=kind + bits, shape=array.shape)
        request.raw_input_contents.append(bytes(encode(array)))
    return request


def outputs_of(response: pb.ModelInferResponse) -> dict[str, np.ndarray]:
    """Return numeric outputs of a response as arrays."""
    types = {"BOOL": np.bool_, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
    return {
        output.name: np.frombuffer(raw, types.get(output.datatype, output.datatype.lower())).reshape(
            output.shape
        )
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def count_to(times: int) -> pb.ModelInferRequest:
    """Make a request to the model `counter`; a million takes about a second."""
    return infer_request("counter", {"times": np.array([times])})


def count_often(wire: Wire) -> None:
    """Let the server learn that `counter` takes long, so that it runs beside the queue's thread."""
    for _ in range(30):
        wire.infer(count_to(2000))


def eventually(holds: Callable[[], object]) -> None:
    """Wait for what no event announces."""
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)
