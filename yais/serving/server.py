"""The inference server, assembled: a repository of models and the service of them."""

from __future__ import annotations

from yais.serving.model_report import ModelReport, reports_of
from yais.serving.model_server import ModelServer
from yais.serving.options import ServerOptions
from yais.serving.repository_host import RepositoryHost

__all__ = ["InferenceServer", "ServerOptions"]


class InferenceServer(ModelServer):
    """Serves the models of repositories over KServe v2, in this process.

    Raises
    ------
    ValueError
        The options ask for frontend processes, which `yais.serving.frontends.supervisor.Supervisor` starts.

    Examples
    --------
    >>> with InferenceServer(ServerOptions((Path("models"),), grpc_port=0)) as server:
    ...     print(server.port)
    """

    def __init__(self, options: ServerOptions) -> None:
        if options.frontends:
            raise ValueError(
                f"got frontends={options.frontends}, expected 0: `Supervisor` starts frontend processes"
            )
        self._host = RepositoryHost(options)
        self.repository = self._host.repository
        super().__init__(self.repository, options, memory=self._host.memory)

    @property
    def reports(self) -> list[ModelReport]:
        """What became of the models, by name and version."""
        return reports_of(self.repository.entries)

    def stop(self) -> bool:
        """Drain and stop; return whether every request in flight ended in time. Idempotent."""
        clean = super().stop()
        return self._host.close(5.0) and clean
