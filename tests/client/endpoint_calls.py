"""Servers with models of many kinds over both protocols, and requests to them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gated_models import TENSORS, write_gated, write_python
from onnx_models import EXAMPLES
from serving_models import SOON, fill, serving_models

from yais.client.connection import Connection
from yais.client.endpoint import Endpoint, connect
from yais.client.infer_call import InferAnswer, InferCall, InputTensor
from yais.client.transport import Transport
from yais.core.tensor import DataType, TensorSpec
from yais.errors import Code
from yais.protocol.tensor_codec import encode
from yais.serving.http.options import HttpOptions
from yais.serving.server import InferenceServer

KINDS = ("grpc", "http", "stream", "streams")
"""Transports: unary, over HTTP, on one stream, on three."""

COUNTING = """
import numpy as np

class Model:
    def execute(self, inputs):
        for value in range(int(inputs["x"][0])):
            yield {"y": np.array([value], np.float32)}
"""
"""Answers as often as it is told to."""


@contextmanager
def serving(directory: Path, **options: Any) -> Iterator[InferenceServer]:
    """Serve, over both protocols: the models of the examples and those of `fill`; and

    gated       gives back what it gets, when its gate lets it pass; a queue of one
    counting    answers as often as `x` says; decoupled
    """
    fill(directory)
    write_gated(directory, "gated", "max_batch_size: 4 instance_group { count: 8 }")
    write_python(directory, "counting", COUNTING, TENSORS + "model_transaction_policy { decoupled: true }")
    with serving_models(EXAMPLES, directory, http=HttpOptions("127.0.0.1", 0), **options) as server:
        yield server


@contextmanager
def connected(kind: str, server: InferenceServer, **options: Any) -> Iterator[Endpoint]:
    """Be connected to a server, over the protocol that a kind of transport wants."""
    protocol, port = ("http", server.http_port) if kind == "http" else ("grpc", server.port)
    address = options.pop("address", f"127.0.0.1:{port}")
    with connect(Connection(address, **{"timeout": SOON, **options}), protocol) as endpoint:
        yield endpoint


def transport_of(kind: str, endpoint: Endpoint) -> Transport:
    """Return a transport of a kind."""
    if kind in {"grpc", "http"}:
        return endpoint.transport()
    return endpoint.stream_transport(3 if kind == "streams" else 1)


def given(name: str, array: np.ndarray, datatype: str | None = None) -> InputTensor:
    """Return an input."""
    kind = DataType.of(array.dtype) if datatype is None else DataType(datatype)
    return InputTensor(TensorSpec(name, kind, array.shape), bytes(encode(array)))


def call_of(model: str, arrays: Mapping[str, np.ndarray], **options: Any) -> InferCall:
    """Return a request."""
    return InferCall(model, [given(name, array) for name, array in arrays.items()], **options)


def row(*values: float) -> dict[str, np.ndarray]:
    """Return the input of `gated`, or with one value of `counting`."""
    return {"x": np.array([values], np.float32)}


class Asked:
    """A request that is sent, and what came of it."""

    def __init__(self, transport: Transport, request: Any) -> None:
        self.told: list[tuple[Code, str, Any]] = []
        self._transport = transport
        self._ended = threading.Event()
        transport.send(request, self._done)

    def _done(self, code: Code, text: str, reply: Any) -> None:
        self.told.append((code, text, reply))
        self._ended.set()

    @property
    def ended(self) -> bool:
        """Whether it has been told."""
        return self._ended.is_set()

    def status(self) -> tuple[Code, str]:
        """Wait for the end; return code and text."""
        assert self._ended.wait(SOON)
        ((code, text, _),) = self.told
        return code, text

    def answers(self) -> list[InferAnswer]:
        """Wait for the end, which must be a good one; return the answers."""
        assert self.status() == (Code.OK, "")
        return list(self._transport.answers(self.told[0][2]))

    def answer(self) -> InferAnswer:
        """Wait for the only answer."""
        (answer,) = self.answers()
        return answer


def ask(transport: Transport, call: InferCall) -> Asked:
    """Send a request."""
    return Asked(transport, transport.encode(call))
