"""What the front doors use: a server's models and operations, in this process or in another."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from yais.core.clock import Deadline
from yais.core.future import Future
from yais.inference.layout import Signature
from yais.inference.request import InferResponse, Respond
from yais.protocol.infer_request import InferMessage
from yais.rpc.context import Context
from yais.rpc.resources import Resources
from yais.serving.caller import Caller

__all__ = ["FrontResources", "Infer", "ReplyT", "RequestT"]

RequestT = TypeVar("RequestT", bound=Message)
ReplyT = TypeVar("ReplyT", bound=Message)


class Infer(Protocol):
    """Submits requests to models; see `yais.serving.inference.infer`."""

    def __call__(
        self, message: InferMessage, caller: Caller, *, respond: Respond | None = None, decoupled: str = ""
    ) -> Future[InferResponse]:
        """Submit a request."""


class FrontResources(Resources):
    """What is behind the front doors, gRPC and HTTP.

    Parameters
    ----------
    stopping
        Says whether the server is on its way out.
    drain
        Lets end what is served by other ways than gRPC, see `Resources.drain`.

    Attributes
    ----------
    infer
        Submits a request to its model.
    """

    infer: Infer

    def __init__(
        self,
        *,
        stopping: Callable[[], bool] = lambda: False,
        drain: Callable[[Deadline, threading.Event], bool] = lambda _deadline, _hurried: True,
    ) -> None:
        self._stopping = stopping
        self._drain = drain

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether the server takes inference requests."""

    @property
    def lost(self) -> bool:
        """Whether something is lost that only another process gets back."""
        return False

    @property
    @abstractmethod
    def started(self) -> bool:
        """Whether the models had their chance to load."""

    @abstractmethod
    def decoupled(self, model: str, version: str) -> bool:
        """Return whether a model answers any number of times.

        Raises
        ------
        NotFound, Unavailable
            There is no such model now. What is in another process leaves it to `infer` to say so.
        """

    @abstractmethod
    async def signature(self, model: str, version: str) -> Signature:
        """Return what a model takes and gives.

        Raises
        ------
        NotFound, Unavailable
            There is no such model now.
        """

    @abstractmethod
    async def perform(self, context: type[Context[RequestT, ReplyT, Any]], request: RequestT) -> ReplyT:
        """Return what an RPC answers; raise what it raises.

        Parameters
        ----------
        context
            Of the RPC, whose name is the context's without "Context". Its `execute` uses nothing of it but
            the resources.
        """

    @abstractmethod
    def copies_much(self, message: InferMessage) -> bool:
        """Return whether `infer` would keep this thread for long; raise as it does."""

    def drain(self, deadline: Deadline, hurried: threading.Event) -> bool:
        """Let end what is served by other ways than gRPC."""
        return self._drain(deadline, hurried)
