"""A Python model in worker processes: what happens there takes nothing else down."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Generator, Iterator, Sequence

from yais.core.clock import Deadline, monotonic
from yais.core.pool import Lease, Pool
from yais.engines.engine import Array
from yais.engines.python import reordered
from yais.engines.python_model import PythonModelConfig
from yais.engines.restart_delay import RestartDelay
from yais.engines.worker_process import WorkerProcess
from yais.errors import FailedPrecondition, Unavailable

__all__ = ["WorkerEngine"]

_log = logging.getLogger("yais.engines")

_START_SECONDS = 300.0  # that a model may take to load
_CLOSE_SECONDS = 5.0  # that a model may take to finalize


class _Place:
    """Where one worker runs, and after it the next."""

    def __init__(self, process: WorkerProcess) -> None:
        self.process = process
        self.delay = RestartDelay()
        self.restart: threading.Thread | None = None


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

    def __init__(self, config: PythonModelConfig, *, workers: int = 1, timeout: float = 60.0) -> None:
        if workers < 1 or not timeout > 0:
            raise ValueError(f"got {workers=} and {timeout=}, expected numbers above 0")
        self.inputs, self.outputs = config.inputs, config.outputs
        self._config = config
        self._timeout = timeout
        self._lock = threading.Lock()
        self._alive = workers  # under the lock
        self._closing = threading.Event()
        self._places = self._start(workers)
        self.decoupled = self._places[0].process.decoupled
        self._pool = Pool(self._places, name=f"workers of {config.name}")

    def __repr__(self) -> str:
        size = len(self._places)
        return f"<WorkerEngine {self._config.name}: {self._alive} of {size} processes alive>"

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes, those that have ended among them."""
        return [place.process.pid for place in self._places]

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
        if self.decoupled:
            raise FailedPrecondition("the model answers with a stream, expected a call of stream")
        with self._worker() as worker:
            outputs = worker.execute(self._named(inputs))
        return [outputs[spec.name] for spec in self.outputs]

    def stream(self, inputs: Sequence[Array]) -> Generator[Sequence[Array], None, None]:
        """Run the model in a process, which is taken until the end; see `DecoupledEngine`.

        Raises as `execute` does.
        """
        if not self.decoupled:
            raise FailedPrecondition("the model answers once, expected a call of execute")
        with self._worker() as worker, contextlib.closing(worker.stream(self._named(inputs))) as results:
            for outputs in results:
                yield [outputs[spec.name] for spec in self.outputs]

    def close(self) -> None:
        """Let the model finalize in every process, and end them, within seconds. Idempotent."""
        self._closing.set()
        with self._lock:
            self._alive = 0
        deadline = Deadline.after(_CLOSE_SECONDS)
        for place in self._places:
            if place.restart is not None and place.restart.is_alive():
                place.process.terminate()  # it may be loading the model
                place.restart.join(deadline.remaining())
        for place in self._places:
            place.process.close(deadline.remaining() or 0.0)

    def _named(self, inputs: Sequence[Array]) -> dict[str, Array]:
        return {spec.name: array for spec, array in zip(self.inputs, inputs, strict=True)}

    def _start(self, count: int) -> list[_Place]:
        places = [_Place(WorkerProcess(self._config, self._timeout)) for _ in range(count)]
        try:
            for place in places:  # which load side by side
                place.process.wait_ready(_START_SECONDS)
        except BaseException:
            for place in places:
                place.process.close(0.0)
            raise
        return places

    @contextlib.contextmanager
    def _worker(self) -> Iterator[WorkerProcess]:
        if not self._alive:
            name = self._config.name
            raise Unavailable(f"the worker process of model '{name}' ended and is being started again")
        lease = self._pool.acquire(self._timeout)
        try:
            yield lease.item.process
        finally:
            if lease.item.process.alive:
                lease.release()
            else:
                self._restart(lease)

    def _restart(self, lease: Lease[_Place]) -> None:
        with self._lock:
            self._alive -= 1
        name = f"{self._config.name}-restart"
        lease.item.restart = threading.Thread(target=self._revive, args=(lease,), name=name, daemon=True)
        lease.item.restart.start()

    def _revive(self, lease: Lease[_Place]) -> None:
        place = lease.item
        started = place.process.started
        with lease:
            while not self._closing.wait(place.delay.after(started, monotonic())):
                started = monotonic()
                if self._replace(place):
                    with self._lock:
                        self._alive += 1
                    return

    def _replace(self, place: _Place) -> bool:
        name = self._config.name
        _log.warning("model '%s': starting another worker process", name)
        try:
            place.process = WorkerProcess(self._config, self._timeout)
            if self._closing.is_set():  # after `close` has looked for a process to end
                place.process.close(0.0)
                return False
            place.process.wait_ready(_START_SECONDS)
        except Exception as error:
            _log.error("model '%s': cannot start a worker process: %s", name, error)
            return False
        return True
