"""A frontend process: listens to clients, and has the engine process answer them."""

from __future__ import annotations

import logging
import socket
import threading

from yais.core.clock import Deadline
from yais.errors import YaisError
from yais.serving.front_doors import FrontDoors
from yais.serving.frontends.child import freeze, run_child
from yais.serving.frontends.control import (
    Connect,
    ControlChannel,
    FrontendCounts,
    Hurry,
    Parted,
    Ready,
    Setup,
    Waiting,
)
from yais.serving.frontends.frontend_resources import FrontendResources, forward
from yais.serving.inference_service import inference_service
from yais.serving.log_settings import LogSettings

__all__ = ["FrontendProcess"]

_log = logging.getLogger("yais.serving")

_TELL = 1.0  # seconds between counts for the metrics


class FrontendProcess:
    """Serves clients, until it is told to stop or the supervisor is gone.

    Parameters
    ----------
    channel
        To the supervisor.
    """

    def __init__(self, channel: ControlChannel, setup: Setup) -> None:
        options = setup.options
        self._channel = channel
        self._resources = FrontendResources(
            LogSettings(options.logging),
            changed=self._report_health,
            stopping=lambda: self._doors.stopping,
            drain=self._drain_http,
        )
        service = inference_service(options.infer_contexts, forward)
        self._doors = FrontDoors(options, self._resources, service, self._resources.metrics)
        self._stopper = threading.Thread(target=self._stop, name="yais-stop")
        self._stopped = threading.Event()
        self._clean = self._ready = self._open = False
        self._link = 0  # that was to be used last

    def run(self) -> bool:
        """Serve; return whether every request was answered."""
        threading.Thread(target=self._count, name="yais-counts", daemon=True).start()
        self._channel.send(Waiting())
        try:
            self._follow()
        except BaseException:
            self._doors.stop()
            raise
        self._stopper.join()
        return self._clean

    # What the resources need of the doors, which are made after them.

    def _report_health(self) -> None:
        if not self._open:
            return
        self._doors.report_health()
        if self._resources.started and not self._ready:
            self._ready = True
            self._channel.send(Ready())

    def _drain_http(self, deadline: Deadline, hurried: threading.Event) -> bool:
        return self._doors.drain_http(deadline, hurried)

    def _follow(self) -> None:
        """Do what the supervisor says until the end, which begins when it says nothing any more."""
        while (received := self._channel.receive()) is not None:
            message, connections = received
            if isinstance(message, Connect):
                self._connect(message.link, connections[0])
            elif isinstance(message, Hurry):
                self._doors.hurry()
            elif not self._stopper.ident:
                self._stopper.start()
        if not self._stopper.ident:
            self._stopper.start()

    def _connect(self, link: int, connection: socket.socket) -> None:
        if self._stopper.ident and not self._open:  # told to stop before it had started
            connection.close()
            return
        try:
            self._resources.connect(connection)
        except YaisError as error:
            _log.error("cannot connect to the engine process: %s", error)
            connection.close()
        self._link = link
        if self._resources.link.connected and not self._open:
            self._open_doors()

    def _open_doors(self) -> None:
        """Listen: not before there is an engine process, as others on the same port may have one."""
        self._doors.open_grpc()
        self._doors.open_http()
        self._open = True
        self._doors.watch_health()
        freeze()
        self._report_health()

    def _stop(self) -> None:
        self._clean = self._doors.stop()
        self._stopped.set()
        self._channel.shutdown()  # so that `_follow` ends

    def _count(self) -> None:
        told = FrontendCounts()
        while not self._stopped.wait(_TELL):
            self._resources.look()
            if self._link and not self._resources.link.connected:
                self._channel.send(Parted(self._link))
            counts = FrontendCounts(self._doors.in_flight, self._doors.requests)
            if counts != told:
                told = counts
                self._channel.send(counts)


if __name__ == "__main__":
    run_child(FrontendProcess)
