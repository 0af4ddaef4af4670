"""A Python model in worker processes: what happens there takes nothing else down."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence

from yais.core.clock import Deadline
from yais.engines.engine import Array, DecoupledEngine
from yais.engines.python_model import PythonModelConfig
from yais.engines.selection import reordered
from yais.engines.worker_group import WorkerGroup
from yais.errors import FailedPrecondition

__all__ = ["WorkerEngine"]

_CLOSE_SECONDS = 5.0  # that a model may take to finalize


class WorkerEngine:
    """A model's file in one or more worker processes, each of which runs one request at a time.

    A process that ends, or is killed because it did not answer in time, fails the request that it had and
    is started again: after 0.1 s at first, up to 30 s where it happens again and again. Meanwhile requests
    go to the other processes; if there is none, they fail at once.

    Parameters
    ----------
    config
        Of the model.
    workers
        Processes.
    timeout
        Seconds that a request may wait for a process, and that one answer may take.
    pinned
        Whether each instance of the model keeps to a process of its own, for a model that remembers what it
        was asked. Its requests fail while that process is being started again.

    Attributes
    ----------
    decoupled
        Whether the model is a generator, so that `stream` is to be called.
    blocks
        Whether a call may wait for something other than the CPU: True.

    Raises
    ------
    InvalidArgument
        The model cannot be loaded; see `load_python_model`.
    Unavailable
        A process ended while the model was loaded.
    DeadlineExceeded
        Loading took longer than 300 s.
    ValueError
        The number of workers or the timeout is not above 0.
    """

    blocks = True

    def __init__(
        self, config: PythonModelConfig, *, workers: int = 1, timeout: float = 60.0, pinned: bool = False
    ) -> None:
        if workers < 1 or not timeout > 0:
            raise ValueError(f"got {workers=} and {timeout=}, expected numbers above 0")
        self.inputs, self.outputs = config.inputs, config.outputs
        self._name = config.name
        self._groups = _started(config, [1] * workers if pinned else [workers], timeout)
        self.decoupled = self._groups[0].processes[0].decoupled

    def __repr__(self) -> str:
        alive = sum(group.alive for group in self._groups)
        return f"<WorkerEngine {self._name}: {alive} of {len(self.pids)} processes alive>"

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes, those that have ended among them."""
        return [process.pid for group in self._groups for process in group.processes]

    def at(self, instance: int) -> DecoupledEngine:
        """Return what runs the batches of an instance: this engine, or if pinned, one of its processes."""
        return _Instance(self, self._groups[instance]) if len(self._groups) > 1 else self

    def select(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Fix the order of inputs and outputs; see `Engine`. Raises InvalidArgument."""
        self.inputs, self.outputs = reordered(self.inputs, self.outputs, inputs, outputs)

    def execute(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run the model in a process; see `Engine`.

        Raises
        ------
        YaisError, PythonModelError
            The model did, or its outputs are not those declared.
        Unavailable
            The process ended, or none is running.
        DeadlineExceeded
            There was no answer in time, or no process free.
        FailedPrecondition
            The model is a generator.
        """
        return self._execute(self._groups[0], inputs)

    def stream(self, inputs: Sequence[Array]) -> Generator[Sequence[Array], None, None]:
        """Run the model in a process, which is taken until the end; see `DecoupledEngine`.

        Raises as `execute` does.
        """
        return self._stream(self._groups[0], inputs)

    def close(self) -> None:
        """Let the model finalize in every process, and end them, within seconds. Idempotent."""
        deadline = Deadline.after(_CLOSE_SECONDS)
        for group in self._groups:
            group.close(deadline)

    def _execute(self, group: WorkerGroup, inputs: Sequence[Array]) -> Sequence[Array]:
        if self.decoupled:
            raise FailedPrecondition("the model answers with a stream, expected a call of stream")
        with group.worker() as worker:
            outputs = worker.execute(self._named(inputs))
        return [outputs[spec.name] for spec in self.outputs]

    def _stream(self, group: WorkerGroup, inputs: Sequence[Array]) -> Generator[Sequence[Array], None, None]:
        if not self.decoupled:
            raise FailedPrecondition("the model answers once, expected a call of execute")
        with group.worker() as worker, contextlib.closing(worker.stream(self._named(inputs))) as results:
            for outputs in results:
                yield [outputs[spec.name] for spec in self.outputs]

    def _named(self, inputs: Sequence[Array]) -> dict[str, Array]:
        pairs = zip(self.inputs, inputs, strict=True)
        return {spec.name: array for spec, array in pairs if array is not None}


class _Instance:
    """A pinned engine, seen by one instance. What is closed is the engine."""

    def __init__(self, engine: WorkerEngine, group: WorkerGroup) -> None:
        self._engine = engine
        self._group = group
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self.decoupled = engine.decoupled
        self.blocks = True

    def select(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self._engine.select(inputs, outputs)
        self.inputs, self.outputs = self._engine.inputs, self._engine.outputs

    def execute(self, inputs: Sequence[Array]) -> Sequence[Array]:
        return self._engine._execute(self._group, inputs)

    def stream(self, inputs: Sequence[Array]) -> Generator[Sequence[Array], None, None]:
        return self._engine._stream(self._group, inputs)

    def close(self) -> None:
        self._engine.close()


def _started(config: PythonModelConfig, counts: Sequence[int], timeout: float) -> list[WorkerGroup]:
    groups = [WorkerGroup(config, count, timeout) for count in counts]
    try:
        for group in groups:
            group.wait_ready()
    except BaseException:
        for group in groups:
            group.close(Deadline.after(0.0))
        raise
    return groups
