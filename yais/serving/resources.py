"""What the contexts of the inference service share."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from yais.core.clock import Deadline
from yais.inference.layout import Signature
from yais.inference.servable import Servable
from yais.protocol.infer_request import InferMessage
from yais.repository.repository import LoadedModel, ModelEntry
from yais.rpc.context import Context
from yais.serving.cuda_shared_memory import CudaSharedMemory
from yais.serving.front_resources import FrontResources, ReplyT, RequestT
from yais.serving.header_forwarding import Forward
from yais.serving.inference import infer
from yais.serving.log_settings import LogSettings
from yais.serving.shared_memory import SystemSharedMemory
from yais.serving.shared_tensors import copies_much
from yais.serving.tracer import Tracer

__all__ = ["Models", "ServingResources"]


class Models(Protocol):
    """What a server serves: a `ModelRepository`, or the models of a manager."""

    @property
    def entries(self) -> Sequence[ModelEntry]:
        """All models, by name."""

    @property
    def ready(self) -> bool:
        """Whether every model is ready."""

    def load_all(self, progress: Callable[[ModelEntry], None] | None = None) -> None:
        """Load what is not loaded yet; see `ModelRepository.load_all`."""

    def find(self, name: str, version: str = "") -> LoadedModel:
        """Return a model that takes requests; see `ModelRepository.find`."""


class ServingResources(FrontResources):
    """The models of this process, and what the server says of itself.

    Parameters
    ----------
    models
        The models.
    name
        Of the server, as clients see it.
    strict_readiness
        Whether the server is only ready while every model is.
    system_memory, cuda_memory
        The shared memory of clients.
    tracer
        Traces requests, as far as its settings say.
    logging
        What is logged.
    forward
        Takes the headers of a call that become parameters of its inference requests; None if none do.
    stopping, drain
        See `FrontResources`.

    Attributes
    ----------
    loaded
        Whether the models were given the chance to load.
    """

    def __init__(
        self,
        models: Models,
        *,
        name: str,
        strict_readiness: bool,
        system_memory: SystemSharedMemory,
        cuda_memory: CudaSharedMemory,
        tracer: Tracer,
        logging: LogSettings,
        forward: Forward | None = None,
        stopping: Callable[[], bool] = lambda: False,
        drain: Callable[[Deadline, threading.Event], bool] = lambda _deadline, _hurried: True,
    ) -> None:
        super().__init__(stopping=stopping, drain=drain)
        self.infer = partial(infer, self)
        self.models = models
        self.name = name
        self.strict_readiness = strict_readiness
        self.system_memory = system_memory
        self.cuda_memory = cuda_memory
        self.tracer = tracer
        self.logging = logging
        self.forward = forward
        self.loaded = False

    def find_model(self, name: str, version: str = "") -> Servable:
        """Return a model that takes requests; see `FindModel`."""
        return self.models.find(name, version).model

    @property
    def ready(self) -> bool:
        """Whether the server takes inference requests."""
        return self.loaded and not self._stopping() and (self.models.ready or not self.strict_readiness)

    @property
    def lost(self) -> bool:
        """Whether a model has lost every device it runs on."""
        return any(entry.loaded is not None and entry.loaded.model.lost for entry in self.models.entries)

    @property
    def started(self) -> bool:
        """See `FrontResources`."""
        return self.loaded

    def decoupled(self, model: str, version: str) -> bool:
        """See `FrontResources`."""
        return self.models.find(model, version).model.decoupled

    async def signature(self, model: str, version: str) -> Signature:
        """See `FrontResources`."""
        return self.models.find(model, version).model.signature

    async def perform(self, context: type[Context[RequestT, ReplyT, Any]], request: RequestT) -> ReplyT:
        """See `FrontResources`."""
        made = context()
        made.resources = self
        answer: Any = made.execute(request)
        reply: ReplyT = await answer if inspect.isawaitable(answer) else answer
        return reply

    def copies_much(self, message: InferMessage) -> bool:
        """See `FrontResources`."""
        return copies_much(self, message)

    def close(self) -> None:
        """Leave the models to whose they are, and let go of the rest."""
        self.system_memory.unregister("")
        self.cuda_memory.close()
        self.tracer.close()
