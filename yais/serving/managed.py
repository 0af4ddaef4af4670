"""The models of an `InferenceManager` as a server."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from yais.errors import FailedPrecondition, NotFound, Unavailable
from yais.inference.manager import InferenceManager
from yais.inference.servable import Servable
from yais.repository.description import described
from yais.repository.repository import LoadedModel, ModelEntry, ModelState
from yais.serving.http.server import HttpOptions
from yais.serving.model_server import ModelServer
from yais.serving.options import ServerOptions

__all__ = ["ManagedModels", "ManagedServer"]


class ManagedModels:
    """A manager's models, as a server finds them; see `yais.serving.resources.Models`."""

    def __init__(self, manager: InferenceManager) -> None:
        self._manager = manager
        self._loaded: WeakKeyDictionary[Servable, LoadedModel] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<ManagedModels of {self._manager!r}>"

    @property
    def entries(self) -> list[ModelEntry]:
        """All models that are ready, by name: the others are not allocated yet."""
        entries = []
        for name in self._manager.get_models():
            try:
                loaded = self.find(name)
            except (NotFound, Unavailable):  # unregistered in this moment
                continue
            entries.append(ModelEntry(name, loaded.model.version, ModelState.READY, loaded=loaded))
        return entries

    @property
    def ready(self) -> bool:
        """Whether none has lost what it runs on: what is not ready is not served."""
        return all(entry.ready for entry in self.entries)

    def load_all(self, progress: Callable[[ModelEntry], None] | None = None) -> None:
        """Do nothing: the manager has loaded them."""

    def find(self, name: str, version: str = "") -> LoadedModel:
        """Return a model that takes requests.

        Raises
        ------
        NotFound
            There is no such model or version.
        Unavailable
            The manager has no memory for it yet.
        """
        try:
            model = self._manager.find(name, version)
        except NotFound:
            which = f"version {version} is not found" if version else "is not found"
            raise NotFound(f"Request for unknown model: '{name}' {which}") from None
        except FailedPrecondition as error:
            raise Unavailable(str(error)) from None
        loaded = self._loaded.get(model)
        if loaded is None:
            loaded = self._loaded[model] = LoadedModel(model, described(model))
        return loaded


class ManagedServer(ModelServer):
    """Serves the models of a manager over KServe v2, those registered later too. The manager is left open."""

    def __init__(
        self,
        manager: InferenceManager,
        *,
        address: str,
        port: int,
        http_port: int | None,
        metrics_port: int | None,
    ) -> None:
        http = None if http_port is None else HttpOptions(address, http_port)
        options = ServerOptions(grpc_address=address, grpc_port=port, http=http, metrics_port=metrics_port)
        super().__init__(ManagedModels(manager), options, memory=manager.memory)
