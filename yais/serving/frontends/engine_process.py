"""The engine process: the models, the metrics, and the links to the frontends."""

from __future__ import annotations

import logging
import socket
import threading
from functools import partial
from typing import Any

from yais.core.clock import Deadline
from yais.core.future import Future
from yais.errors import NotFound, Unavailable, YaisError
from yais.inference.request import InferResponse, Respond
from yais.protocol.infer_request import InferMessage
from yais.serving.backend import Backend
from yais.serving.caller import Caller
from yais.serving.frontends.child import freeze, plain_error, run_child
from yais.serving.frontends.control import Connect, ControlChannel, Failed, Listening, Loaded, Setup, Status
from yais.serving.frontends.frontend_metrics import FrontendCollector
from yais.serving.frontends.link_bundles import Bundles
from yais.serving.frontends.link_server import FrontendLinks
from yais.serving.frontends.link_statistics import LinkStatistics
from yais.serving.frontends.operations import Operations
from yais.serving.model_report import reports_of
from yais.serving.repository_host import RepositoryHost

__all__ = ["EngineProcess"]

_log = logging.getLogger("yais.serving")

_LOOK = 1.0  # seconds between looks at what has changed: models come and go
_LETTING_GO = 5.0  # seconds for threads without work to end


class EngineProcess:
    """Serves frontends, until it is told to stop or the supervisor is gone.

    Parameters
    ----------
    channel
        To the supervisor.
    """

    def __init__(self, channel: ControlChannel, setup: Setup) -> None:
        options = setup.options
        self._channel = channel
        self._patience = options.drain_delay + options.grace + _LETTING_GO
        self._status = Status(0, options.frontends, 0, 0, {})
        self._stopping = threading.Event()
        self._host = RepositoryHost(options)
        self._backend = Backend(
            self._host.repository,
            options,
            memory=self._host.memory,
            stopping=self._stopping.is_set,
            collectors=[FrontendCollector(lambda: self._status, self._statistics)],
        )
        self._operations = Operations(self._backend, self._push, self._sync)
        self._links = FrontendLinks(
            self._infer, self._operations.call, bundles=Bundles(self._backend.resources)
        )
        self._loader = threading.Thread(target=self._load, name="yais-loading", daemon=True)

    def run(self) -> bool:
        """Serve; return whether every request was answered."""
        try:
            self._backend.open_metrics()
            self._channel.send(Listening(self._backend.metrics_port))
            self._loader.start()
            self._follow()
            return self._links.drain(self._patience)
        finally:
            self._close()

    def _infer(
        self, message: InferMessage, caller: Caller, *, respond: Respond | None = None, decoupled: str = ""
    ) -> Future[InferResponse]:
        resources = self._backend.resources
        try:
            if resources.copies_much(message):
                later = partial(resources.infer, message, caller, respond=respond, decoupled=decoupled)
                return self._operations.submit(later)
            return resources.infer(message, caller, respond=respond, decoupled=decoupled)
        except NotFound as error:
            if resources.loaded:
                raise
            # It may be there yet: a client of the process before this one must not take it for gone.
            raise Unavailable(f"{error}; the server is loading its models") from None

    # What the parts need of those that are made after them.

    def _statistics(self) -> dict[int, LinkStatistics]:
        return self._links.statistics()

    def _push(self, topic: str, value: Any) -> None:
        self._links.push(topic, value)

    def _sync(self) -> list[Future[None]]:
        return self._links.sync()

    def _follow(self) -> None:
        """Do what the supervisor says, until it says to stop or says nothing any more."""
        while (received := self._channel.receive()) is not None:
            message, connections = received
            if isinstance(message, Connect):
                self._add(message.frontend, connections[0])
            elif isinstance(message, Status):
                self._status = message
            else:
                return
        # The frontends have noticed, too, and let their requests end.
        end = Deadline.after(self._patience)
        while self._links.statistics() and not end.expired():
            self._stopping.wait(0.05)

    def _add(self, frontend: int, connection: socket.socket) -> None:
        end = Deadline.after(_LETTING_GO)
        while frontend in self._links.statistics() and not end.expired():
            self._stopping.wait(0.01)  # that the process before has gone is not known here yet
        try:
            self._links.add(frontend, connection)
        except YaisError as error:  # the frontend asks again
            _log.error("cannot connect to frontend %d: %s", frontend, error)
            connection.close()

    def _load(self) -> None:
        """Load the models, and from then on tell the frontends what changes."""
        try:
            self._operations.tell()
            repository = self._host.repository
            repository.load_all(lambda _entry: self._operations.tell())
        except Exception as error:
            self._channel.send(Failed(plain_error(error)))
            return
        self._backend.resources.loaded = True
        self._operations.tell()
        freeze()
        self._channel.send(Loaded(reports_of(repository.entries)))
        while not self._stopping.wait(_LOOK):
            self._operations.tell()

    def _close(self) -> None:
        self._stopping.set()
        self._links.close(_LETTING_GO)
        self._operations.close(_LETTING_GO)
        self._backend.close_metrics()
        self._backend.resources.close()
        self._host.close(_LETTING_GO)


if __name__ == "__main__":
    run_child(EngineProcess)
