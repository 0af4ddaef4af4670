"""The supervisor: a server whose work is done by an engine process and several frontends."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

from yais.repository.roots import Roots
from yais.rpc.signals import Signals, stop_at_signal
from yais.serving.access import Access
from yais.serving.front_doors import address_of
from yais.serving.frontends.crew import Crew
from yais.serving.frontends.ports import ReservedPorts, check_addresses
from yais.serving.header_forwarding import header_pattern
from yais.serving.model_report import ModelReport
from yais.serving.options import ServerOptions

__all__ = ["Supervisor"]


class Supervisor:
    """Serves the models of repositories over KServe v2, with `ServerOptions.frontends` processes that listen.

    Used as `InferenceServer` is. A process that ends is started again: a frontend loses its connections, and
    without the engine process requests end with UNAVAILABLE. If this process ends, the others do.

    Parameters
    ----------
    options
        As of `InferenceServer`. They are sent to the processes, so that they must be picklable; but for the
        handler of the log, in whose place each process has one of its own.

    Raises
    ------
    ValueError
        There are to be no frontends, or an option cannot be what it is.
    NotFound
        A repository is no directory.

    Examples
    --------
    >>> with Supervisor(ServerOptions((Path("models"),), grpc_port=0, frontends=2)) as server:
    ...     print(server.port, server.engine_pid, server.frontend_pids)
    """

    def __init__(self, options: ServerOptions) -> None:
        _check(options)
        self._logs = options.logging.handler is not None
        self.options = replace(options, logging=replace(options.logging, handler=None))
        try:
            pickle.dumps(self.options)
        except Exception as error:
            raise ValueError(f"got options that cannot be sent to another process: {error}") from None
        self._ports: ReservedPorts | None = None
        self._crew: Crew | None = None
        self._signals: Signals | None = None

    def __repr__(self) -> str:
        return f"<Supervisor of {self._crew or f'{self.options.frontends} frontends, not started'}>"

    @property
    def port(self) -> int:
        """The gRPC port, once started."""
        return self._listening.grpc_port

    @property
    def address(self) -> str:
        """The gRPC address with its port, once started."""
        return address_of(self.options.grpc_address, self.port)

    @property
    def http_port(self) -> int | None:
        """The HTTP port, once started; None when there is none."""
        http = self._listening.http
        return None if http is None else http.port

    @property
    def metrics_port(self) -> int | None:
        """The port of the metrics, once started; None when there are none."""
        return self._running.metrics_port

    @property
    def engine_pid(self) -> int | None:
        """Number of the engine process; None while there is none."""
        return self._running.engine_pid

    @property
    def frontend_pids(self) -> list[int | None]:
        """Numbers of the frontends' processes; None for one that is to be started again."""
        return self._running.frontend_pids

    @property
    def in_flight(self) -> int:
        """Requests being served by all frontends, about a second ago."""
        return self._running.in_flight

    @property
    def reports(self) -> list[ModelReport]:
        """What became of the models when the engine process was started last, by name and version."""
        return self._running.reports

    def start(self) -> None:
        """Start the processes; return when all listen and the models were loaded.

        Health and metadata are answered while models load.

        Raises
        ------
        OSError
            An address cannot be bound, or a process cannot be started.
        YaisError
            The engine process could not start; see `ModelRepository.load_all`.
        Unavailable
            A process ended before it was ready.
        RuntimeError
            The server was started before.
        """
        if self._crew is not None:
            raise RuntimeError("the server was started already")
        self._ports = ReservedPorts(self.options)
        crew = Crew(self._ports.options, logs=self._logs)
        crew.start()
        self._crew = crew
        try:
            while not crew.started.wait(0.5):  # a signal that came just before the wait is seen after it
                pass
            if crew.failure is not None:
                raise crew.failure
        except BaseException:
            if not crew.serving:
                crew.hurry()
            self.stop()
            raise

    def run(self, *, started: Callable[[], object] | None = None) -> None:
        """Serve until SIGTERM or SIGINT, then drain and stop. Only on the main thread, after `start`.

        Parameters
        ----------
        started
            See `yais.rpc.server.Server.run`.

        Raises
        ------
        RuntimeError
            Called on another thread; then it has stopped, too.
        """
        try:
            if threading.current_thread() is not threading.main_thread():
                raise RuntimeError("run was called on another thread than the main one")
            with Signals() as signals:
                self._signals = signals
                if started is not None:
                    started()
                if not self._running.over.is_set():
                    stop_at_signal(signals, self.stop, self.hurry)
        finally:
            self.stop()

    def stop(self) -> bool:
        """Drain and stop; return whether every request in flight ended in time. Idempotent.

        If an exception interrupts it, as a second Ctrl-C does, the end goes on without waiting for requests.
        """
        crew, ports = self._crew, self._ports
        if crew is None or ports is None:
            return True
        crew.stop()
        try:
            crew.over.wait()
        except BaseException:
            crew.hurry()
            raise
        ports.release()
        if self._signals is not None:
            self._signals.end()
        return crew.clean

    def hurry(self) -> None:
        """Let a `stop` that has begun not wait for requests. From any thread."""
        self._running.hurry()

    @property
    def _running(self) -> Crew:
        if self._crew is None:
            raise RuntimeError("the server is not started")
        return self._crew

    @property
    def _listening(self) -> ServerOptions:
        if self._ports is None:
            raise RuntimeError("the server has no port before it is started")
        return self._ports.options

    def __enter__(self) -> Self:
        """Start; the `with` block's end stops."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()


def _check(options: ServerOptions) -> None:
    """Raise what the processes would, before there are any."""
    if options.frontends < 1:
        raise ValueError(f"got frontends={options.frontends}, expected at least 1")
    check_addresses(options)
    Access(options.access)
    header_pattern(options.header_forward_pattern)
    if options.http is not None:
        header_pattern(options.http.header_forward_pattern)
    Roots(options.repositories).look()
