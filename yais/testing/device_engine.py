"""A model on a `FakeDevice`, each phase of which can be watched, held and made to fail."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, TypeVar, cast

import numpy as np

from yais.core.clock import NANOSECONDS
from yais.core.future import Future
from yais.core.tensor import TensorSpec
from yais.engines.engine import Array
from yais.lane import Lane
from yais.memory.arena import Arena
from yais.memory.buffer import Buffer
from yais.memory.device_buffer import DeviceBuffer
from yais.testing.engine import FakeEngine
from yais.testing.simulated_gpu import Kind, SimulatedStream

__all__ = ["FakeDeviceEngine", "FakePhase", "Phase", "Seconds"]

T = TypeVar("T")

_SECONDS = 30.0  # after which a wait counts as lost

Phase = Literal["begin", "copy_in", "launch", "kernel", "wait", "copy_out", "outputs"]
"""What an execution goes through. Copies and the kernel are work of the stream, the others calls."""

_PHASES: tuple[Phase, ...] = ("begin", "copy_in", "launch", "kernel", "wait", "copy_out", "outputs")

Seconds = Mapping[Kind, float | Callable[[int], float]]
"""How long an execution's work of each kind takes; or functions that say so for a batch of some size."""

_numbers = itertools.count(1)  # of executions, on all engines


class FakePhase:
    """One phase of all executions of an engine, to be watched, held and made to fail. Thread-safe.

    Attributes
    ----------
    entered
        Released once by every execution that comes to it.
    gate
        Executions wait here until it is set, as it is at first: at most 30 seconds, then TimeoutError.
    error
        Raised after the gate, unless it is None.
    """

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<FakePhase: {'open' if self.gate.is_set() else 'held'}, error {self.error!r}>"

    def enter(self) -> None:
        """Go through."""
        self.entered.release()
        if not self.gate.wait(_SECONDS):
            raise TimeoutError(f"the gate was not set within {_SECONDS} s")
        if self.error is not None:
            raise self.error


class FakeDeviceEngine:
    """A `yais.engines.engine.DeviceEngine` that computes with a function on a `FakeDevice`. Thread-safe.

    An execution copies its inputs to the device memory of the lane, computes there, and copies the outputs to
    the lane's staging memory. It raises RuntimeError if another one uses its activation memory at the same
    time.

    Parameters
    ----------
    inputs, outputs, function
        As of `FakeEngine`.
    scratch_size, device_size
        Bytes of activation memory and of device memory of an execution. Inputs that do not fit raise
        MemoryError.
    seconds
        How long it takes on the device, beside what the function takes; nothing by default.

    Attributes
    ----------
    phases
        By name: see `Phase`.
    gpu
        None: any device does.

    Examples
    --------
    >>> engine.phases["copy_out"].gate.clear()
    >>> first = runner.infer(x=array)
    >>> assert engine.phases["copy_out"].entered.acquire(timeout=10)  # its token is free already:
    >>> second = runner.infer(x=array)
    >>> assert engine.phases["kernel"].entered.acquire(timeout=10)
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        function: Callable[..., Sequence[Array]],
        *,
        scratch_size: int = 0,
        device_size: int = 4096,
        seconds: Seconds | None = None,
    ) -> None:
        self.scratch_size = scratch_size
        self.device_size = device_size
        self.gpu: int | None = None
        self.phases: Mapping[Phase, FakePhase] = {name: FakePhase() for name in _PHASES}
        self._host = FakeEngine(inputs, outputs, function)
        self._seconds: Seconds = seconds or {}

    def __repr__(self) -> str:
        return f"<FakeDeviceEngine: {len(self.batches)} batches>"

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs."""
        return self._host.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's outputs."""
        return self._host.outputs

    @property
    def batches(self) -> list[int]:
        """The batch of each kernel that ran, in their order."""
        return self._host.batches

    @property
    def closed(self) -> int:
        """How often it was closed."""
        return self._host.closed

    def select(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Fix the order of inputs and outputs; see `Engine`."""
        self._host.select(inputs, outputs)

    def execute(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Compute on the calling thread; see `Engine`."""
        return self._host.execute(inputs)

    def close(self) -> None:
        """Count the call; see `Engine`."""
        self._host.close()

    def begin(self, inputs: Sequence[Array], lane: Lane) -> _FakeExecution:
        """Queue copies of the inputs; see `DeviceEngine`."""
        self.phases["begin"].enter()
        return _FakeExecution(self, inputs, lane)

    def duration(self, kind: Kind, batch: int) -> int:
        """Return how long the work of a kind takes for a batch, ns."""
        seconds = self._seconds.get(kind, 0.0)
        return round((seconds(batch) if callable(seconds) else seconds) * NANOSECONDS)


class _FakeExecution:
    """An execution; see `yais.engines.engine.Execution`."""

    def __init__(self, engine: FakeDeviceEngine, inputs: Sequence[Array], lane: Lane) -> None:
        self._engine = engine
        self._lane = lane
        self._stream: SimulatedStream = lane.stream
        self._number = next(_numbers)
        self._batch = inputs[0].shape[0] if inputs and inputs[0].ndim else 1
        self._results: Sequence[Array] = ()
        self._computed: Future[None] | None = None
        self._copied: Future[list[Array]] | None = None
        self._inputs = _on_device(inputs, cast("Buffer | None", lane.device))
        self._arrived = self._submit("copy_in", partial(self._copy_in, inputs))

    def launch(self, scratch: DeviceBuffer | None) -> None:
        """Queue the kernel, and the copies of its outputs."""
        self._engine.phases["launch"].enter()
        memory = cast("Buffer | None", scratch)
        size = self._engine.scratch_size
        if size > (memory.size if memory is not None else 0):
            raise MemoryError(f"got {memory!r} as activation memory, expected {size} bytes")
        mark = memory.array(np.int64, 1) if memory is not None and size else np.zeros(1, np.int64)
        _exchange(mark, 0, self._number)
        self._computed = self._submit("compute", partial(self._kernel, mark))
        self._copied = self._submit("copy_out", self._copy_out)

    def wait(self) -> None:
        """Wait until the kernel has run."""
        _result(self._computed)
        self._engine.phases["wait"].enter()

    def outputs(self) -> list[Array]:
        """Wait for the copies."""
        copied = _result(self._copied)
        self._engine.phases["outputs"].enter()
        return copied

    def _submit(self, kind: Kind, function: Callable[[], T]) -> Future[T]:
        duration = self._engine.duration(kind, self._batch)
        return self._stream.submit(kind, function, duration=duration, label=str(self._number))

    def _copy_in(self, inputs: Sequence[Array]) -> None:
        self._engine.phases["copy_in"].enter()
        for source, target in zip(inputs, self._inputs, strict=True):
            target[...] = source

    def _kernel(self, mark: Array) -> None:
        try:
            self._arrived.result(0)
            self._engine.phases["kernel"].enter()
            self._results = self._engine.execute(self._inputs)
        finally:
            _exchange(mark, self._number, 0)

    def _copy_out(self) -> list[Array]:
        _result(self._computed)
        self._engine.phases["copy_out"].enter()
        return [_staged(array, self._lane.staging) for array in self._results]


def _on_device(inputs: Sequence[Array], memory: Buffer | None) -> list[Array]:
    arrays = []
    offset = 0
    for array in inputs:
        if memory is None or offset + array.nbytes > memory.size:
            raise MemoryError(
                f"got {memory!r} on the device, expected more than {offset} + {array.nbytes} bytes"
            )
        arrays.append(memory.array(array.dtype, array.shape, offset))
        offset += Arena.padded(array.nbytes)
    return arrays


def _exchange(mark: Array, expected: int, new: int) -> None:
    if mark[0] != expected:
        raise RuntimeError(f"got activation memory of execution {mark[0]}, expected {expected}: it is shared")
    mark[0] = new


def _staged(array: Array, staging: Arena) -> Array:
    copy = np.frombuffer(staging.take(array.nbytes), array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _result(event: Future[T] | None) -> T:
    if event is None:
        raise RuntimeError("the execution was not launched")
    return event.result(_SECONDS)
