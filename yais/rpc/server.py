"""The server: ports, services, executors, and the order in which they start and stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from yais.core.clock import Deadline
from yais.core.dispatcher import current_dispatcher
from yais.rpc.completion_queue import CoreServer
from yais.rpc.executor import Executor
from yais.rpc.health import Health
from yais.rpc.lifecycle import UnaryLifecycle
from yais.rpc.loop import LoopThread
from yais.rpc.reflection import enable_reflection
from yais.rpc.resources import Resources
from yais.rpc.service import Service
from yais.rpc.servicers import ServicerHost
from yais.rpc.signals import Signals

__all__ = ["Server"]

_log = logging.getLogger("yais.rpc")


class Server:
    """Serves contexts and ordinary grpcio servicers on one or more addresses.

    Parameters
    ----------
    addresses
        Where to listen, such as "0.0.0.0:50051", "[::1]:0" (a free port) or "unix:/run/echo.sock".
    resources
        What all contexts share; opened by `start`, closed by `stop`.
    threads
        Executor threads. One is right for most services: contexts hand long work to pools.
    max_message_bytes
        Largest message taken or sent; None means no limit. gRPC's own default is 4 MiB for what is taken.
    grace
        Seconds that calls in flight may take to end after `stop` or a signal; then they are cancelled.
    drain_delay
        Seconds between reporting NOT_SERVING and refusing new calls, for load balancers to notice.
    reflection
        Whether to offer server reflection.
    options
        Further gRPC channel arguments, as (key, value) pairs; they win over those yais sets itself.

    Examples
    --------
    >>> server = Server("0.0.0.0:50051", resources=EchoResources())
    >>> server.add(service)
    >>> server.run()                      # until SIGTERM or SIGINT
    >>> with server: ...                  # or as a context manager, in tests and notebooks
    """

    def __init__(
        self,
        *addresses: str,
        resources: Resources | None = None,
        threads: int = 1,
        max_message_bytes: int | None = 4 << 20,
        grace: float = 30.0,
        drain_delay: float = 0.0,
        reflection: bool = True,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        if not addresses:
            raise ValueError("got no address, expected at least one such as '0.0.0.0:50051'")
        if threads < 1:
            raise ValueError(f"got threads={threads}, expected at least 1")
        self.health = Health()
        self.ports: list[int] = []
        self._addresses = addresses
        self._resources = resources if resources is not None else Resources()
        self._threads = threads
        self._grace = grace
        self._drain_delay = drain_delay
        self._reflection = reflection
        # As a dict, since of two arguments with one key gRPC takes the first.
        self._options = tuple((_options(max_message_bytes) | dict(options)).items())
        self._services: dict[str, Service] = {}
        self._host = ServicerHost()
        self._loop = LoopThread("yais-asyncio")
        self._slots: list[UnaryLifecycle] = []
        self._executors: list[Executor] = []
        self._core: CoreServer | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()  # no more waiting: every call has ended, or a signal says so
        self._stopped = threading.Event()
        self._clean = True
        self._signals: Signals | None = None

    def __repr__(self) -> str:
        state = "stopped" if self._stopped.is_set() else "running" if self._core else "not started"
        ports = ",".join(map(str, self.ports))
        return f"<Server {state} on {ports or '-'}: {self.in_flight} of {len(self._slots)} contexts busy>"

    @property
    def port(self) -> int:
        """Port of the first address. Raises RuntimeError before the start."""
        if not self.ports:
            raise RuntimeError("the server has no port before it is started")
        return self.ports[0]

    @property
    def in_flight(self) -> int:
        """Calls that have a context now."""
        return sum(slot.busy for slot in self._slots)

    def add(self, service: Service) -> None:
        """Serve the registered RPCs of a service. Only before `start`."""
        self._must_not_run()
        if service.name in self._services:
            raise ValueError(f"service {service.name} is added already")
        self._services[service.name] = service

    def add_servicer(self, add_to_server: Callable[[Any, Any], None], servicer: Any) -> None:
        """Mount an ordinary grpcio servicer. Only before `start`.

        Parameters
        ----------
        add_to_server
            The generated `add_XServicer_to_server`.
        servicer
            The object it takes. Its methods run on a pool of threads, in grpcio's blocking style.
        """
        self._must_not_run()
        add_to_server(servicer, self._host)

    def start(self, *, serving: bool = True) -> None:
        """Open the resources, bind the addresses and begin to take calls.

        Parameters
        ----------
        serving
            Whether to report SERVING at once; otherwise call `health.report` when ready.

        Raises
        ------
        OSError
            An address cannot be bound.
        RuntimeError
            The server was started before, even if that failed.
        """
        with self._lock:
            self._must_not_run()
            self._mount_health_and_reflection()
            names = [f"yais-rpc-{index}" for index in range(self._threads)]
            self._executors = [Executor(name, on_end=self._executor_ended) for name in names]
            self._executors[0].occupy()  # by the shutdown, which is announced on its queue
            core = self._core = CoreServer(self._options, [executor.queue for executor in self._executors])
            try:
                self._bind(core)
                self._resources.open()
            except BaseException:
                self._abandon(core)
                raise
            self._host.open()
            core.start()
            self._arm(core)
            for executor in self._executors:
                executor.start()
        if serving:
            self.health.report(serving=True)

    def stop(self, grace: float | None = None) -> bool:
        """Drain and stop: report NOT_SERVING, refuse new calls, let those in flight end, close.

        Parameters
        ----------
        grace
            Seconds to wait for calls in flight; the constructor's `grace` by default. Then they are
            cancelled.

        Returns
        -------
        bool
            Whether every call ended. A context that neither ends nor heeds its cancellation is left
            behind with a warning. Idempotent; from any thread that serves no call.

        Raises
        ------
        RuntimeError
            Called on an executor's thread, which would wait for itself.
        """
        if current_dispatcher() in self._executors:
            raise RuntimeError(
                "stop was called on an executor's thread, expected a thread that serves no call"
            )
        with self._lock:
            if self._core is not None and not self._stopped.is_set():
                self.health.enter_shutdown()
                self._over.wait(self._drain_delay)
                self._clean = self._drain(self._core, Deadline.after(self._grace if grace is None else grace))
                self._close(self._core)
            return self._clean

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the server is stopped or `timeout` seconds are over; return whether it is."""
        return self._stopped.wait(timeout)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain and stop; or until another thread calls `stop`.

        The first signal drains within the grace period; a second one cancels what is still running.
        Afterwards the handlers that were there before are in place again.

        Raises
        ------
        RuntimeError
            Called on another thread than the main one.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("run was called on another thread than the main one, which alone gets signals")
        if self._core is None:
            self.start()
        with Signals() as signals:
            self._signals = signals
            if self._stopped.is_set() or not signals.wait():
                return
            second = threading.Thread(target=self._heed_second, args=(signals,), name="yais-signals")
            second.start()
            try:
                self.stop()
            finally:
                signals.end()
                second.join()

    def __enter__(self) -> Self:
        """Start; the `with` block's end stops."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def _must_not_run(self) -> None:
        if self._core is not None:
            raise RuntimeError("the server was started already")

    def _mount_health_and_reflection(self) -> None:
        self.health.mount(self._host)
        if self._reflection:
            pools = [service.descriptor.file.pool for service in self._services.values()]
            enable_reflection(self._host, [*self._services, *self._host.service_names()], pools)

    def _bind(self, core: CoreServer) -> None:
        for service in self._services.values():
            for method in service.methods.values():
                core.register_method(method.path)
        for address in self._addresses:
            port = core.add_port(address)
            if port == 0:
                raise OSError(f"cannot listen on {address!r}: is the address in use?")
            self.ports.append(port)

    def _abandon(self, core: CoreServer) -> None:
        # Started and stopped at once: core knows no other way to let go of its ports and queues.
        core.start()
        for executor in self._executors:
            executor.drain()
            executor.start()
        if self._drain(core, Deadline.after(self._grace)):
            core.destroy()
        self._stopped.set()

    def _arm(self, core: CoreServer) -> None:
        spawn = self._loop.spawn
        methods = [method for service in self._services.values() for method in service.methods.values()]
        for executor in self._executors:
            self._host.arm(executor, core)
            for method in methods:
                for _ in range(method.contexts):
                    slot = UnaryLifecycle(method, executor, core, self._resources, spawn)
                    self._slots.append(slot)
                    slot.arm()

    def _drain(self, core: CoreServer, deadline: Deadline) -> bool:
        first = self._executors[0]
        for executor in self._executors:
            executor.drain()
        core.shutdown(first.queue, lambda _event: first.vacate())
        self._host.end_parked()
        self._over.wait(deadline.remaining())
        if not self._ended():
            in_flight = self.in_flight + self._host.in_flight
            _log.warning("%d calls are still in flight, their time is over: cancelling them", in_flight)
            core.cancel_all_calls()
        # Cancelled calls end at once unless their contexts hold them; those get a moment to notice.
        end = Deadline.after(1.0)
        ended = [executor.join(end.remaining() or 0.0) for executor in self._executors]
        if not all(ended):
            _log.warning("%d calls did not end: their contexts ignore cancellation", self.in_flight)
        return all(ended)

    def _ended(self) -> bool:
        return all(executor.ended for executor in self._executors)

    def _executor_ended(self) -> None:
        if self._ended():
            self._over.set()

    def _close(self, core: CoreServer) -> None:
        self._host.close(timeout=1.0)
        self._loop.close(timeout=1.0)
        try:
            self._resources.close()
        finally:
            if self._clean:
                core.destroy()
            self._stopped.set()
            if self._signals is not None:
                self._signals.end()

    def _heed_second(self, signals: Signals) -> None:
        if signals.wait():
            self._over.set()


def _options(max_message_bytes: int | None) -> dict[str, Any]:
    limit = -1 if max_message_bytes is None else max_message_bytes
    return {
        "grpc.max_receive_message_length": limit,
        "grpc.max_send_message_length": limit,
        # A peer that vanishes without a word would keep its contexts for two hours, gRPC's own default. While
        # it has calls in flight it is asked once a minute, and has 20 s (gRPC's default) to answer.
        "grpc.keepalive_time_ms": 60_000,
        # Two servers on one port would share its calls at random, which surprises more than it helps.
        "grpc.so_reuseport": 0,
    }
