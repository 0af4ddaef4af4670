"""What is asked of every server: one unary method, one request, and bytes its answer must hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tritonclient.grpc import service_pb2


@dataclass(frozen=True)
class Workload:
    """A unary call whose request never changes, so that it is encoded once."""

    name: str
    method: str
    request: bytes
    expected: tuple[bytes, ...]


def _simple() -> Workload:
    first, second = np.arange(16, dtype=np.int32), np.full(16, 3, np.int32)
    request = service_pb2.ModelInferRequest(model_name="simple")
    for name, array in (("INPUT0", first), ("INPUT1", second)):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        request.raw_input_contents.append(array.tobytes())
    return Workload(
        name="simple",
        method="/inference.GRPCInferenceService/ModelInfer",
        request=request.SerializeToString(),
        expected=((first + second).tobytes(), (first - second).tobytes()),
    )


def _echo() -> Workload:
    text = b"hello, world!"
    # EchoRequest{string text = 1}: the tag, the length, the text.
    return Workload("echo", "/yais.examples.echo.Echo/Say", b"\x0a" + bytes([len(text)]) + text, (text,))


WORKLOADS = {workload.name: workload for workload in (_simple(), _echo())}
