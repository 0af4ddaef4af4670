"""The server: ports, services, executors, and the order in which they start and stop."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from yais.core.affinity import affinity
from yais.core.clock import Deadline
from yais.core.cpu_set import CpuSet
from yais.core.dispatcher import current_dispatcher
from yais.core.loop_thread import LoopThread
from yais.core.timer import Timer
from yais.errors import Unavailable
from yais.rpc.admin import mount_channelz, mount_csds
from yais.rpc.completion_queue import CoreServer
from yais.rpc.environment import Environment
from yais.rpc.executor import Executor
from yais.rpc.health import Health
from yais.rpc.interceptor import Interceptor
from yais.rpc.method import Method
from yais.rpc.periodic import Periodic
from yais.rpc.reception import Reception
from yais.rpc.reflection import enable_reflection
from yais.rpc.resources import Resources
from yais.rpc.service import Service
from yais.rpc.servicers import ServicerHost
from yais.rpc.signals import Signals, stop_at_signal
from yais.rpc.statistics import MethodStatistics, ServerStatistics
from yais.rpc.stream_lifecycle import StreamLifecycle
from yais.rpc.tls import Tls
from yais.rpc.transport import Transport
from yais.rpc.unary_lifecycle import UnaryLifecycle

__all__ = ["Server"]

_log = logging.getLogger("yais.rpc")

_DEFAULT = "default"

_PARTING = 0.5
"""Seconds for the last status of streams to reach their callers before these are cut off. Our estimate."""

_NOTICE = 1.0
"""Seconds for contexts to end whose calls were cancelled. Our estimate."""

_HANG_UP = 5.0
"""Seconds for callers without calls to close their connections. gRPC core waits 20 for one that hangs."""

_LOOK = 0.05
"""Seconds between looks at whether only such callers are left. Our estimate."""


class _Group(NamedTuple):
    """The threads of one executor, by their names."""

    threads: list[str]
    cpus: CpuSet | None


class Server:
    """Serves contexts and ordinary grpcio servicers on one or more addresses.

    Parameters
    ----------
    addresses
        Where to listen, such as "0.0.0.0:50051", "[::1]:0" (a free port) or "unix:/run/echo.sock".
    resources
        What all contexts share; opened by `start`, closed by `stop`.
    threads
        Threads of the default executor. One is right for most services: contexts hand long work to pools.
    cpus
        Those the default executor's threads may run on, as in "0-3,8"; without, all of the process.
    interceptors
        What sees every call, of whatever kind, the outermost first.
    transport
        Keepalive, connection age, compression and more; its documentation has the defaults.
    tls
        The certificate of every address but unix sockets, which stay plain.
    max_message_bytes
        Largest message taken or sent; None means no limit. gRPC's own default is 4 MiB for what is taken.
    grace
        Seconds that calls in flight may take to end after `stop` or a signal; then they are cancelled.
    drain_delay
        Seconds between reporting NOT_SERVING and refusing new calls, for load balancers to notice.
    reflection
        Whether to offer server reflection.
    channelz, csds
        Whether to offer gRPC's debugging services; they need the packages of `pip install 'yais[admin]'`.
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
        cpus: CpuSet | str | None = None,
        interceptors: Sequence[Interceptor] = (),
        transport: Transport = Transport(),  # noqa: B008 - it cannot change
        tls: Tls | None = None,
        max_message_bytes: int | None = 4 << 20,
        grace: float = 30.0,
        drain_delay: float = 0.0,
        reflection: bool = True,
        channelz: bool = False,
        csds: bool = False,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        if not addresses:
            raise ValueError("got no address, expected at least one such as '0.0.0.0:50051'")
        self.health = Health()
        self.ports: list[int] = []
        self._core: CoreServer | None = None
        self._addresses = addresses
        self._resources = resources if resources is not None else Resources()
        self._interceptors = tuple(interceptors)
        self._groups: dict[str, _Group] = {}
        self.add_executor(_DEFAULT, threads=threads, cpus=cpus)
        self._timer = Timer("yais-periodic")
        self._periodic: list[Periodic] = []
        self._grace = grace
        self._drain_delay = drain_delay
        self._reflection = reflection
        # As a dict, since of two arguments with one key gRPC takes the first.
        self._transport = transport
        arguments = transport.arguments() | _options(max_message_bytes, channelz)
        self._options = tuple((arguments | dict(options)).items())
        self._tls = tls
        self._services: dict[str, Service] = {}
        self._host = ServicerHost()
        if channelz:
            mount_channelz(self._host)
        if csds:
            mount_csds(self._host)
        self._loop = LoopThread("yais-asyncio")
        self._slots: list[UnaryLifecycle | StreamLifecycle] = []
        self._receptions: list[Reception] = []
        self._executors: list[Executor] = []
        self._lock = threading.Lock()
        self._over = threading.Event()  # no more waiting: every call has ended, or a signal says so
        self._hurried = threading.Event()  # a second signal has come
        self._stopped = threading.Event()
        self._clean = self._resources_drained = True
        self._stopping = False
        self._drainer: threading.Thread | None = None
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

    @property
    def stopping(self) -> bool:
        """Whether the server has begun to stop, or has stopped."""
        return self._stopping

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

    def add_executor(self, name: str, *, threads: int = 1, cpus: CpuSet | str | None = None) -> None:
        """Make another executor, for the RPCs registered with its name. Only before `start`.

        What its RPCs do on its threads does not hold up those of other executors.

        Parameters
        ----------
        threads
            How many; each has a completion queue of its own, and `contexts` contexts of each RPC.
        cpus
            Those the threads may run on, as in "0-3,8"; without, all of the process.

        Raises
        ------
        ValueError
            There is such an executor, the number is too small, or the CPUs are not allowed.
        """
        self._must_not_run()
        if name in self._groups:
            raise ValueError(f"executor {name!r} is there already")
        if threads < 1:
            raise ValueError(f"executor {name!r}: got threads={threads}, expected at least 1")
        allowed = None if cpus is None else CpuSet(cpus)
        if allowed is not None:
            with affinity(allowed):  # or ValueError
                pass
        prefix = "yais-rpc" if name == _DEFAULT else f"yais-{name}"
        names = [f"{prefix}-{index}" for index in range(threads)]
        self._groups[name] = _Group(names, allowed)

    def every(self, seconds: float, function: Callable[[], Any]) -> None:
        """Call a function every `seconds` while the server runs, its drain included.

        A plain function is called on a thread that all of them share, so it should be short; a coroutine
        function runs on the server's asyncio loop. Periods that a call outlasts are skipped, and what it
        raises is logged.

        Raises
        ------
        ValueError
            `seconds` is not positive.
        RuntimeError
            The server has stopped.
        """
        periodic = Periodic(seconds, function, self._timer, self._loop)
        with self._lock:
            if self._stopped.is_set():
                raise RuntimeError("the server has stopped")
            self._periodic.append(periodic)
            if self._core is not None:
                periodic.start()

    def statistics(self) -> ServerStatistics:
        """Return the numbers of now. From any thread."""
        methods: dict[str, MethodStatistics] = {}
        by_path: dict[str, list[UnaryLifecycle | StreamLifecycle]] = {}
        for slot in self._slots:
            by_path.setdefault(slot.method.path, []).append(slot)
        waiting: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        for reception in self._receptions:
            waiting[reception.path] += len(reception)
            refused[reception.path] += reception.refused
        for path, slots in by_path.items():
            methods[path] = MethodStatistics(
                executor=slots[0].method.executor or _DEFAULT,
                contexts=len(slots),
                in_flight=sum(slot.busy for slot in slots),
                waiting=waiting[path],
                refused=refused[path],
                calls=sum(slot.calls for slot in slots),
            )
        return ServerStatistics(methods, self._host.in_flight, self._host.statistics())

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
        ValueError
            An RPC is registered for an executor that does not exist, or an executor has no RPC.
        RuntimeError
            The server was started before, even if that failed.
        """
        with self._lock:
            self._must_not_run()
            self._mount_health_and_reflection()
            methods = self._assigned()
            executors = {
                name: [Executor(each, cpus=group.cpus, on_end=self._executor_ended) for each in group.threads]
                for name, group in self._groups.items()
            }
            self._executors = [executor for group in executors.values() for executor in group]
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
            self._arm(core, methods, executors)
            for executor in self._executors:
                executor.start()
            for periodic in self._periodic:
                periodic.start()
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
            Called on an executor's thread, or in a coroutine on the server's loop: it would wait for itself.
        """
        if current_dispatcher() in self._executors or self._loop.on_thread:
            raise RuntimeError(
                "stop was called on an executor's or the loop's thread, expected one that serves no call"
            )
        with self._lock:
            if self._core is not None and not self._stopped.is_set():
                self._stopping = True
                self.health.enter_shutdown()
                self._over.wait(self._drain_delay)
                deadline = Deadline.after(self._grace if grace is None else grace)
                self._drain_resources(deadline)
                drained = self._drain(self._core, deadline)
                if self._drainer is not None:
                    self._drainer.join()
                self._clean = drained and self._resources_drained
                self._close(self._core)
            return self._clean

    def hurry(self) -> None:
        """Let a `stop`, now or later, not wait for calls: what a second signal does. From any thread."""
        self._hurried.set()
        self._over.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the server is stopped or `timeout` seconds are over; return whether it is."""
        return self._stopped.wait(timeout)

    def run(self, *, started: Callable[[], object] | None = None) -> None:
        """Serve until SIGTERM or SIGINT, then drain and stop; or until another thread calls `stop`.

        The first signal drains within the grace period; a second one cancels what is still running.
        Afterwards the handlers that were there before are in place again.

        Parameters
        ----------
        started
            Called once the server takes calls and signals end it as above: to print its port, for example.

        Raises
        ------
        RuntimeError
            Called on another thread than the main one.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("run was called on another thread than the main one, which alone gets signals")
        with Signals() as signals:
            self._signals = signals
            if self._core is None:
                self.start()
            if started is not None:
                started()
            if not self._stopped.is_set():
                stop_at_signal(signals, self.stop, self.hurry)

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
            described = [service.descriptor for service in self._services.values()]
            pools = [descriptor.file.pool for descriptor in described if descriptor is not None]
            enable_reflection(self._host, [*self._services, *self._host.service_names()], pools)

    def _bind(self, core: CoreServer) -> None:
        for service in self._services.values():
            for method in service.methods.values():
                core.register_method(method.path)
        for address in self._addresses:
            plain = address.startswith(("unix:", "unix-abstract:"))
            port = core.add_port(address, self._tls.credentials() if self._tls and not plain else None)
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

    def _assigned(self) -> dict[str, list[Method]]:
        """Return the methods of each executor."""
        assigned: dict[str, list[Method]] = {name: [] for name in self._groups}
        for service in self._services.values():
            for method in service.methods.values():
                name = method.executor or _DEFAULT
                if name not in assigned:
                    known = ", ".join(assigned)
                    raise ValueError(f"{method.path}: got executor {name!r}, expected one of {known}")
                assigned[name].append(method)
        for name, methods in assigned.items():
            if name != _DEFAULT and not methods:
                raise ValueError(f"executor {name!r} serves no RPC: register one with executor={name!r}")
        return assigned

    def _arm(
        self, core: CoreServer, methods: dict[str, list[Method]], executors: dict[str, list[Executor]]
    ) -> None:
        environment = Environment(core, self._resources, self._loop, self._interceptors)
        for executor in executors[_DEFAULT]:
            self._host.arm(executor, environment)
        for name, group in executors.items():
            for executor in group:
                for method in methods[name]:
                    reception = Reception(
                        method.path,
                        executor,
                        core,
                        slots=method.contexts,
                        max_waiting=self._transport.max_waiting_calls if len(group) == 1 else 0,
                        max_seconds=self._transport.max_waiting_time,
                    )
                    self._receptions.append(reception)
                    lifecycle = StreamLifecycle if method.streaming else UnaryLifecycle
                    slots = [
                        lifecycle(method, executor, environment, reception) for _ in range(method.contexts)
                    ]
                    self._slots += slots
                    reception.open(slots)

    def _drain(self, core: CoreServer, deadline: Deadline) -> bool:
        first = self._executors[0]
        for executor in self._executors:
            executor.drain()
        core.shutdown(first.queue, lambda _event: first.vacate())
        for reception in self._receptions:
            reception.close()
        self._host.end_parked()
        streams = [slot for slot in self._slots if isinstance(slot, StreamLifecycle)]
        for stream in streams:
            stream.drain()
        self._wait_for_calls(deadline)
        if not self._ended():
            self._end_streams(streams)
        if not self._ended():
            in_flight = self.in_flight + self._host.in_flight
            if in_flight:  # the last may have ended since
                _log.warning("%d calls are still in flight, their time is over: cancelling them", in_flight)
            core.cancel_all_calls()
        # Cancelled calls end at once unless their contexts hold them; those get a moment to notice.
        end = Deadline.after(_NOTICE)
        ended = [executor.join(end.remaining() or 0.0) for executor in self._executors]
        if not all(ended):
            _log.warning("%d calls did not end: their contexts ignore cancellation", self.in_flight)
        return all(ended)

    def _drain_resources(self, deadline: Deadline) -> None:
        """Begin to let end what is served beside the RPCs."""
        if self._drainer is not None or type(self._resources).drain is Resources.drain:
            return

        def drain() -> None:
            self._resources_drained = False
            self._resources_drained = self._resources.drain(deadline, self._hurried)

        self._drainer = threading.Thread(target=drain, name="yais-drain")
        self._drainer.start()

    def _wait_for_calls(self, deadline: Deadline) -> None:
        """Wait until all has ended, or nothing is left but connections that callers do not close."""
        quiet: Deadline | None = None
        while not self._over.wait(min(deadline.remaining() or 0.0, _LOOK)):
            if deadline.expired() or (quiet is not None and quiet.expired()):
                return
            if self.in_flight + self._host.in_flight:
                quiet = None
            elif quiet is None:
                quiet = Deadline.after(_HANG_UP)

    def _end_streams(self, streams: Sequence[StreamLifecycle]) -> None:
        ended = sum(stream.end(Unavailable("the server is shutting down")) for stream in streams)
        if ended:
            _log.warning("%d streams were left open: closing them with UNAVAILABLE", ended)
            self._over.wait(_PARTING)

    def _ended(self) -> bool:
        return all(executor.ended for executor in self._executors)

    def _executor_ended(self) -> None:
        if self._ended():
            self._over.set()

    def _close(self, core: CoreServer) -> None:
        self._timer.close(timeout=1.0)
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


def _options(max_message_bytes: int | None, channelz: bool) -> dict[str, Any]:
    limit = -1 if max_message_bytes is None else max_message_bytes
    return {
        "grpc.max_receive_message_length": limit,
        "grpc.max_send_message_length": limit,
        "grpc.enable_channelz": int(channelz),
    }
