"""The server of some models: gRPC, HTTP and metrics, started, drained and stopped together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from yais.core.clock import Deadline
from yais.memory.tracked import MemoryTracker
from yais.repository.repository import ModelEntry
from yais.serving.backend import Backend
from yais.serving.front_doors import FrontDoors
from yais.serving.inference_service import inference_service
from yais.serving.options import ServerOptions
from yais.serving.resources import Models

__all__ = ["ModelServer"]


class ModelServer:
    """Serves models over KServe v2. Closing them is left to whose they are.

    Parameters
    ----------
    models
        What to serve.
    options
        Where and how; its repositories are not looked at.
    memory
        What the models have of host memory, for the metrics. That of GPUs is the process's: `cuda_usage`.
    """

    def __init__(self, models: Models, options: ServerOptions, *, memory: MemoryTracker) -> None:
        self.options = options
        self.models = models
        self._backend = Backend(
            models,
            options,
            memory=memory,
            stopping=lambda: self._doors.stopping,
            drain=self._drain_http,
        )
        self._resources = self._backend.resources
        service = inference_service(options.infer_contexts)
        self._doors = FrontDoors(options, self._resources, service, self._backend.metrics)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._doors!r}, {self.models!r}>"

    @property
    def port(self) -> int:
        """The gRPC port, once started."""
        return self._doors.port

    @property
    def address(self) -> str:
        """The gRPC address with its port, once started."""
        return self._doors.address

    @property
    def http_port(self) -> int | None:
        """The HTTP port, once started; None when there is none."""
        return self._doors.http_port

    @property
    def metrics_port(self) -> int | None:
        """The port of the metrics, once started; None when there are none."""
        return self._backend.metrics_port

    @property
    def in_flight(self) -> int:
        """Requests being served now, of every kind."""
        return self._doors.in_flight

    def start(self, progress: Callable[[ModelEntry], None] | None = None) -> None:
        """Listen, then load the models, then report ready.

        Health and metadata are answered while models load.

        Parameters
        ----------
        progress
            See `ModelRepository.load_all`.

        Raises
        ------
        OSError
            An address cannot be bound.
        NotFound, InvalidArgument
            See `ModelRepository.load_all`.
        """
        try:
            self._doors.open_grpc()
        except OSError:
            self.stop()
            raise
        try:
            self._backend.open_metrics()
            self._doors.open_http()
            self.models.load_all(progress)
        except BaseException:
            self.stop()
            raise
        self._resources.loaded = True
        self._doors.watch_health()

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
            self._doors.run(started=started)
        finally:
            self.stop()

    def stop(self) -> bool:
        """Drain and stop; return whether every request in flight ended in time. Idempotent."""
        clean = self._doors.stop()
        self._backend.close_metrics()
        return clean

    def _drain_http(self, deadline: Deadline, hurried: threading.Event) -> bool:
        return self._doors.drain_http(deadline, hurried)

    def __enter__(self) -> Self:
        """Start; the `with` block's end stops."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()
