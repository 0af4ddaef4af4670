"""What takes requests: models with an engine, and those composed of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from yais.core.future import Future
from yais.errors import Unavailable
from yais.inference.layout import Signature
from yais.inference.request import InferRequest, InferResponse

if TYPE_CHECKING:  # which imports this
    from yais.inference.counts import Counts

__all__ = ["FindModel", "ModelClosed", "Servable", "submit_to"]


class ModelClosed(Unavailable):
    """The model is being unloaded. Whoever has found it by name looks again: there may be another by now."""


class Servable(Protocol):
    """One version of a model, ready to take requests: the waist of the system. Thread-safe."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def version(self) -> str:
        """As it stands in responses."""

    @property
    def pending(self) -> int:
        """Requests that wait."""

    @property
    def lost(self) -> str:
        """Why it answers nothing until the process is started again; empty while it does."""

    @property
    def decoupled(self) -> bool:
        """Whether it answers a request any number of times, through `InferRequest.respond`."""

    @property
    def gpus(self) -> frozenset[int]:
        """GPUs on which the contents of inputs may be; none where they must be on the host."""

    def submit(self, request: InferRequest) -> Future[InferResponse]:
        """Take a request.

        Returns at once. The future fails with a `YaisError`; with `ModelClosed`, and is done when this
        returns, if the model takes no more.
        """

    def counts(self) -> Counts:
        """Return what has been counted so far."""

    def close(self, timeout: float) -> bool:
        """Refuse new requests and let those in flight end; return whether they did within `timeout` s."""


class FindModel(Protocol):
    """Finds models by name and version."""

    def __call__(self, name: str, version: str = "") -> Servable:
        """Return a model that takes requests; the latest version if it is empty.

        Raises
        ------
        NotFound
            There is no such model or version.
        Unavailable
            There is, and it is not ready.
        InvalidArgument
            The version is no positive number.
        """


def submit_to(find: FindModel, name: str, version: str, request: InferRequest) -> Future[InferResponse]:
    """Submit a request to a model by name.

    If the model was closed since it was found, because there is a newer one, that gets the request.

    Raises
    ------
    NotFound, Unavailable, InvalidArgument
        See `FindModel`.
    """
    model = find(name, version)
    while True:
        future = model.submit(request)
        if not future.done() or not isinstance(future.exception(0), ModelClosed):
            return future
        newer = find(name, version)
        if newer is model:
            return future
        model = newer
