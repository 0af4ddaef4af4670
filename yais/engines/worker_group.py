"""Worker processes that stand in for each other, and are started again when they end."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from yais.core.clock import Deadline, monotonic
from yais.core.pool import Lease, Pool
from yais.engines.python_model import PythonModelConfig
from yais.engines.restart_delay import RestartDelay
from yais.engines.worker_process import WorkerProcess
from yais.errors import Unavailable

__all__ = ["WorkerGroup"]

_log = logging.getLogger("yais.engines")

_START_SECONDS = 300.0  # that a model may take to load


class _Place:
    """Where one worker runs, and after it the next."""

    def __init__(self, process: WorkerProcess) -> None:
        self.process = process
        self.delay = RestartDelay()
        self.restart: threading.Thread | None = None


class WorkerGroup:
    """Processes of one model, any of which runs its requests. Thread-safe.

    The constructor returns while the processes still start.

    Parameters
    ----------
    config
        Of the model.
    count
        Processes.
    timeout
        Seconds that a request may wait for a process, and that one answer may take.
    """

    def __init__(self, config: PythonModelConfig, count: int, timeout: float) -> None:
        self._config = config
        self._timeout = timeout
        self._lock = threading.Lock()
        self._alive = count  # under the lock
        self._closing = threading.Event()
        self._places = [_Place(WorkerProcess(config, timeout)) for _ in range(count)]
        self._pool = Pool(self._places, name=f"workers of {config.name}")

    def __repr__(self) -> str:
        size = len(self._places)
        return f"<WorkerGroup of {self._config.name}: {self._alive} of {size} processes alive>"

    @property
    def alive(self) -> int:
        """Processes that take requests."""
        return self._alive

    @property
    def processes(self) -> list[WorkerProcess]:
        """All of them, those that have ended among them."""
        return [place.process for place in self._places]

    def wait_ready(self) -> None:
        """Let every process load the model; raises as `WorkerProcess.wait_ready` does."""
        for process in self.processes:  # which load side by side
            process.wait_ready(_START_SECONDS)

    @contextlib.contextmanager
    def worker(self) -> Iterator[WorkerProcess]:
        """Lend a process. One that ends meanwhile is started again.

        Raises
        ------
        Unavailable
            None is running.
        DeadlineExceeded
            None was free in time.
        """
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

    def close(self, deadline: Deadline) -> None:
        """Let the model finalize in every process, and end them. Idempotent."""
        self._closing.set()
        with self._lock:
            self._alive = 0
        for place in self._places:
            if place.restart is not None and place.restart.is_alive():
                place.process.terminate()  # it may be loading the model
                place.restart.join(deadline.remaining())
        for place in self._places:
            place.process.close(deadline.remaining() or 0.0)

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
