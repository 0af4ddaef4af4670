"""What is asked of every server: one method, one request, and bytes its answer must hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tritonclient.grpc import service_pb2


@dataclass(frozen=True)
class Workload:
    """Calls of one method whose request never changes, so that it is encoded once.

    Attributes
    ----------
    concurrency
        Calls in flight that are measured by default; of streams, how many are open.
    kind
        "unary"; "ping-pong", streams on each of which one message is in flight; or "replies", one request
        and a stream of answers.
    """

    name: str
    method: str
    request: bytes
    expected: tuple[bytes, ...]
    concurrency: tuple[int, ...] = (1, 8, 32)
    kind: str = "unary"


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


def _message(text: bytes) -> bytes:
    """Return an EchoRequest{string text = 1}: the tag, the length, the text."""
    length, size = b"", len(text)
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return b"\x0a" + length + bytes([size]) + text


def _echoes() -> tuple[Workload, ...]:
    say, streams = "/yais.examples.echo.Echo/Say", "/yais.benchmarks.Streams/"
    hello = b"hello, world!"
    large = b"x" * (1 << 20)
    short = b"x" * 62  # 64 bytes as a message
    counted = b"%d " % ANSWERS + b"x" * 57
    return (
        Workload("echo", say, _message(hello), (hello,)),
        Workload("large", say, _message(large), (large,), (1, 8)),
        Workload("ping-pong", streams + "PingPong", _message(short), (short,), (1, 32), "ping-pong"),
        Workload("replies", streams + "Replies", _message(counted), (counted,), (1, 8), "replies"),
    )


ANSWERS = 1000
"""Answers to one request of the workload `replies`, which says so in its first word."""

WORKLOADS = {workload.name: workload for workload in (_simple(), *_echoes())}
"""By name. `large` is an echo of 1 MiB."""
