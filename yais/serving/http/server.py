"""The HTTP server: an ASGI application on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import uvicorn

from yais.core.clock import Deadline
from yais.core.dispatcher import set_current_dispatcher
from yais.core.loop_thread import LoopThread
from yais.serving.access import Access, AccessOptions
from yais.serving.front_resources import FrontResources
from yais.serving.http.app import HttpApp
from yais.serving.http.connection import KEEP_ALIVE, Connection, close_overdue
from yais.serving.http.loop_dispatcher import LoopDispatcher
from yais.serving.http.options import HttpOptions
from yais.serving.http.routes import Metrics
from yais.serving.http.tls import tls_context

__all__ = ["HttpOptions", "HttpServer"]

_SOON = 10.0  # seconds for what only waits for the loop
_LOOK = 0.1  # seconds between looks at whether to hurry
_TICK = 1.0  # seconds between looks at the connections


class HttpServer:
    """Serves the inference service over HTTP, from its construction on.

    Parameters
    ----------
    metrics
        Returns what `/metrics` shows.

    Attributes
    ----------
    port
        Where it listens.

    Raises
    ------
    OSError
        The address cannot be bound, or a file cannot be read.
    ValueError
        The port is none, or a file cannot be used.
    """

    port: int

    def __init__(
        self,
        resources: FrontResources,
        options: HttpOptions,
        access: AccessOptions,
        metrics: Metrics,
    ) -> None:
        self._app = HttpApp(resources, options, Access(access), metrics)
        self._server = _Server(_config(self._app, options))
        listener = _bind(options)
        self.port = listener.getsockname()[1]
        self._name = f"{options.address}:{self.port}"
        self._loop = LoopThread("yais-http")
        self._serving = self._loop.spawn(self._server.serve([listener]))
        self._serving.add_done_callback(lambda _: self._server.listening.set())
        self._server.listening.wait(_SOON)
        if self._serving.done():
            self._serving.result(0)

    def __repr__(self) -> str:
        state = "stopping" if self._app.stopping else "serving"
        return f"<HttpServer {self._name} {state}, {self.in_flight} in flight>"

    @property
    def in_flight(self) -> int:
        """Requests being served now, of every kind."""
        return len(self._server.server_state.tasks)

    @property
    def requests(self) -> int:
        """Requests answered since the start."""
        return self._server.server_state.total_requests

    def stop(self, grace: float, hurried: threading.Event | None = None) -> bool:
        """Refuse new requests, let those in flight end; return whether they did within `grace` seconds.

        Connections without a request are closed at once. Idempotent.

        Parameters
        ----------
        hurried
            Once it is set, requests in flight are not waited for any longer.
        """
        self._app.stopping = True
        self._loop.call_soon(self._server.end, grace)
        deadline = Deadline.after(grace + _SOON)
        while not (ended := self._serving.wait(_LOOK)) and not deadline.expired():
            if hurried is not None and hurried.is_set():
                self._loop.call_soon(self._server.end, 0.0)
        return self._loop.close(_SOON) and ended and self._server.clean


class _Server(uvicorn.Server):
    """Uvicorn's server, without its signals, and with waits that end.

    Attributes
    ----------
    listening
        Set once it does, or has failed to.
    clean
        Whether every request in flight at the end was answered.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()
        self.clean = True
        self._ending = asyncio.Event()
        self._grace = 0.0
        self._waiting: asyncio.Timeout | None = None

    def end(self, grace: float) -> None:
        """Begin to stop; on the loop's thread."""
        self._grace = grace
        self._ending.set()
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time() + grace)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whose process it is."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        set_current_dispatcher(LoopDispatcher())
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        """Look after the connections until the end."""
        loop = asyncio.get_running_loop()
        while not self._ending.is_set():
            await self.on_tick(0)  # the date that responses have
            close_overdue(self.server_state.connections, loop.time())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), _TICK)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests in flight end, as long as the grace lasts; then close what is left."""
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._grace) as self._waiting:
                while self._busy():  # noqa: ASYNC110 (uvicorn has no event for it)
                    await asyncio.sleep(0.01)
        self._waiting = None
        self.clean = not self._busy()
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.sleep(0.01)  # until they know
        for task in list(state.tasks):
            task.cancel()

    def _busy(self) -> bool:
        """Return whether a response is not sent yet."""
        state = self.server_state
        # Connections that are idle may take long to close: with TLS, the client has a part in that.
        unsent = (connection.transport.get_write_buffer_size() for connection in state.connections)
        return bool(state.tasks) or any(unsent)


def _config(app: HttpApp, options: HttpOptions) -> uvicorn.Config:
    context = None if options.tls is None else tls_context(options.tls)
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,  # whose process it is configures logging
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )


def _bind(options: HttpOptions) -> socket.socket:
    address, port = options.address, options.port
    if not 0 <= port < 65536:
        raise ValueError(f"got port {port}, expected 0 to 65535")
    try:
        family, kind, _, _, target = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if options.reuse_port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(target)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise OSError(f"cannot serve HTTP on {address}:{port}: {error.strerror}") from None
    return listener
