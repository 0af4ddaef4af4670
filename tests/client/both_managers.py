"""Models that are Python callables, and a manager of them, to ask here and through a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import yais
from yais.core.tensor import DataType, TensorSpec
from yais.inference.manager import InferenceManager
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.serving.managed import ManagedServer

SOON = 60.0
"""Seconds after which a wait counts as lost."""

DIGITS = Path(__file__).parents[2] / "examples/models/digits"

Arrays = Mapping[str, npt.NDArray[Any]]

AWKWARD = ("self", "timeout", "inputs", "pre", "seconds", "name")
"""Names of inputs that are names of parameters, too."""

RAISED: Mapping[int, Callable[[], BaseException]] = {
    1: lambda: ValueError("one is too few"),
    2: lambda: KeyError("two"),
    3: lambda: yais.NotFound("three is not here"),
    4: lambda: yais.ResourceExhausted("four are too many"),
    5: lambda: yais.InvalidArgument("five is no number"),
    6: lambda: yais.Internal("six is broken"),
}
"""What the model `raising` raises, by its input."""


class Gate:
    """A model `X -> Y` that answers when it is let: it says when it is asked, and waits until it is open."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.open = threading.Event()
        self.calls = 0

    def __call__(self, arrays: Arrays) -> Arrays:
        self.calls += 1
        self.asked.release()
        time.sleep(0.002)  # is known for slow, so that no server runs it on the thread that reads sockets
        assert self.open.wait(SOON)
        return {"Y": arrays["X"]}

    @contextmanager
    def closed(self, model: yais.InferenceManager) -> Iterator[None]:
        """Keep it closed while the block lasts; afterwards wait until nothing is in it."""
        self.open.clear()
        self.calls = 0
        while self.asked.acquire(blocking=False):
            pass
        try:
            yield
        finally:
            self.open.set()
            eventually(lambda: model.infer_runner("gate").infer(X=[[0.0]]).result(SOON))


def tensor(name: str, datatype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, DataType(datatype), shape)


def register_all(manager: InferenceManager, gate: Gate) -> None:
    """Register the models of these tests; all take batches of up to 8 unless it is said.

    identity_<type>  X [-1, -1] -> Y, the same
    twice            X FP32[-1, 4] -> Y, joined with others into batches
    soon             X FP32[-1, 4] -> Y, a coroutine
    sums             INT32[-1, 3] of names that are awkward -> "total" FP64[-1], "first" INT32[-1, 3]
    text             X BYTES[-1] -> length INT64[-1], upper BYTES[-1]
    fixed            X INT32[2, 3] -> Y, without a batch dimension
    raising          which INT32[-1] -> which; raises for some
    gate             X FP32[-1, 1] -> Y; one at a time, when it is open
    digits           the example
    """

    def register(name: str, function: Any, inputs: list[TensorSpec], outputs: list[TensorSpec], **how: Any):
        manager.register(name, function, inputs=inputs, outputs=outputs, **{"max_batch_size": 8, **how})

    for kind in DataType:
        tensors = [tensor("X", kind.value, -1, -1)], [tensor("Y", kind.value, -1, -1)]
        register(f"identity_{kind.value.lower()}", lambda arrays: {"Y": arrays["X"]}, *tensors)
    four = [tensor("X", "FP32", -1, 4)], [tensor("Y", "FP32", -1, 4)]
    register("twice", lambda arrays: {"Y": arrays["X"] * 2}, *four, batching=BatchingPolicy(8))
    register("soon", _soon, *four)
    sums = [tensor(name, "INT32", -1, 3) for name in AWKWARD]
    register("sums", _sums, sums, [tensor("total", "FP64", -1), tensor("first", "INT32", -1, 3)])
    texts = [tensor("length", "INT64", -1), tensor("upper", "BYTES", -1)]
    register("text", _text, [tensor("X", "BYTES", -1)], texts)
    register("raising", _raising, [tensor("which", "INT32", -1)], [tensor("which", "INT32", -1)])
    one = [tensor("X", "FP32", -1, 1)], [tensor("Y", "FP32", -1, 1)]
    register("gate", gate, *one, concurrency=1)
    fixed = [tensor("X", "INT32", 2, 3)], [tensor("Y", "INT32", 2, 3)]
    register("fixed", lambda arrays: {"Y": -arrays["X"]}, *fixed, max_batch_size=0)
    manager.register("digits", DIGITS / "1/model.onnx", max_batch_size=32)


@contextmanager
def served(manager: InferenceManager) -> Iterator[ManagedServer]:
    """Serve a manager's models on a free port while the block lasts."""
    server = manager.serve(port=0, block=False, address="127.0.0.1")
    try:
        yield server
    finally:
        server.stop()


def eventually(holds: Callable[[], object]) -> None:
    """Wait for what no event announces."""
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


class OnlyDlpack:
    """An array of another library, as far as numpy can see."""

    def __init__(self, array: npt.NDArray[Any], device: int = 1) -> None:
        self._array = array
        self._device = device

    def __dlpack__(self, **_options: Any) -> Any:
        if self._device != 1:
            raise BufferError("the memory is on another device")
        return self._array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device, 0


async def _soon(arrays: Arrays) -> Arrays:
    return {"Y": arrays["X"] + 1}


def _sums(arrays: Arrays) -> Arrays:
    total = sum(array.sum(axis=1, dtype=np.float64) for array in arrays.values())
    return {"total": total, "first": arrays["self"]}


def _text(arrays: Arrays) -> Arrays:
    texts = arrays["X"]
    upper = np.array([text.upper() for text in texts] or np.empty(0, object), object)
    return {"length": np.array([len(text) for text in texts], np.int64), "upper": upper}


def _raising(arrays: Arrays) -> Arrays:
    for which in arrays["which"]:
        error = RAISED.get(int(which))
        if error is not None:
            raise error()
    return {"which": arrays["which"]}
