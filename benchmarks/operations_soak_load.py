"""The load of benchmarks/operations_soak.py: requests whose answers are known."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from tritonclient.grpc import service_pb2

from benchmarks.processes import BenchmarkError
from benchmarks.serving_models import FEW, FIRST, LARGE
from benchmarks.workloads import WORKLOADS
from yais.client.transport import Done, Transport
from yais.errors import Code
from yais.load.closed_load import ClosedLoad

_IN_FLIGHT, _WARM_UP, _SECONDS, _END = 64, 2.0, 5.0, 30.0
_SMALL_PER_LARGE = 15


@dataclass(frozen=True)
class Question:
    """A request, and bytes that its answer must hold."""

    request: bytes
    expected: tuple[bytes, ...]


class Failure(NamedTuple):
    """How a request ended, and in which second of `time.monotonic`."""

    second: int
    code: Code
    text: str


class Checked:
    """Sends questions by a transport; a wrong answer counts as DATA_LOSS. Thread-safe."""

    def __init__(self, transport: Transport) -> None:
        self._failed: collections.Counter[Failure] = collections.Counter()
        self._transport = transport
        self._lock = threading.Lock()

    def failures(self) -> dict[Failure, int]:
        """Return how many requests ended otherwise than with OK, and how."""
        with self._lock:
            return dict(self._failed)

    def send(self, question: Question, done: Done) -> None:
        """See `Transport.send`."""

        def checked(code: Code, text: str, reply: Any) -> None:
            if code is Code.OK and not all(part in reply for part in question.expected):
                code, text = Code.DATA_LOSS, f"the answer is wrong: {reply[:200]!r}"
            if code is not Code.OK:
                with self._lock:
                    self._failed[Failure(int(time.monotonic()), code, text)] += 1
            done(code, text, reply)

        self._transport.send(question.request, checked)


def questions() -> list[Question]:
    """Return what is sent in turn: mostly `simple`, and now and then 600 KB."""
    simple = WORKLOADS["simple"]
    values = np.arange(LARGE, dtype=np.float32)
    large = service_pb2.ModelInferRequest(model_name=FIRST)
    large.inputs.add(name="X", datatype="FP32", shape=[1, LARGE])
    large.raw_input_contents.append(values.tobytes())
    small = Question(simple.request, simple.expected)
    return [small] * _SMALL_PER_LARGE + [Question(large.SerializeToString(), (values[:FEW].tobytes(),))]


def capacity(sender: Checked) -> float:
    """Return how many requests/s are answered when there are always some in flight."""
    load = ClosedLoad(sender, questions(), _IN_FLIGHT)
    load.start()
    load.wait(_WARM_UP)
    load.take()
    load.wait(_SECONDS)
    window, recording = load.take(), load.stop(_END)
    if recording.failed or not recording.completed or recording.outstanding:
        raise BenchmarkError(f"the capacity cannot be measured: {dict(recording.failed)}, {recording.texts}")
    return window.completed / window.seconds


def by_status(failed: Mapping[Failure, int]) -> collections.Counter[str]:
    """Return how many ended with each status."""
    found: collections.Counter[str] = collections.Counter()
    for failure, number in failed.items():
        found[failure.code.name] += number
    return found
