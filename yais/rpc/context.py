"""Contexts: the logic of an RPC, as users write it."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Generic, TypeVar, Union

from yais.core.clock import NANOSECONDS, NEVER, Deadline, monotonic
from yais.rpc.completion_queue import MetadataItem, ServerCall
from yais.rpc.metadata import Metadata
from yais.rpc.resources import Resources

__all__ = ["Answer", "Context"]

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")
ResourcesT = TypeVar("ResourcesT", bound=Resources)

Answer = Union[ReplyT, "Future[ReplyT]", Awaitable[ReplyT]]
"""What `execute` may return: the reply, a future of it, or a coroutine that returns it."""


class Context(Generic[RequestT, ReplyT, ResourcesT]):
    """One unary RPC. Subclass it and write `execute`.

    A fresh instance serves each RPC; its class must be constructible without arguments. How many may be
    in flight at once is said when the class is registered (`Service.register`).

    Attributes
    ----------
    resources
        The server's `Resources`.
    """

    resources: ResourcesT
    _call: ServerCall
    _accepted: int  # moment of arrival, ns of `monotonic`
    _cancelled = False
    _trailing: list[MetadataItem] | None = None

    def execute(self, request: RequestT) -> Answer[ReplyT]:
        """Answer the request.

        Runs on the executor's thread, which serves every other RPC of that executor too: return at once,
        return a future that another thread completes, or write `async def` and run on the server's
        asyncio loop. Raise a `YaisError` to end the RPC with its status; any other exception ends it with
        the status that `yais.errors.status_of` gives and is logged.
        """
        raise NotImplementedError(f"{type(self).__name__} has no execute method")

    def on_start(self) -> None:
        """Run before `execute`, on the executor's thread. What it raises ends the RPC."""

    def on_finish(self) -> None:
        """Run when the RPC is over, whatever came of it, on the executor's thread."""

    @property
    def metadata(self) -> Metadata:
        """What the caller sent beside the request."""
        return Metadata(self._call.metadata)

    @property
    def trailing_metadata(self) -> list[MetadataItem]:
        """Pairs to send with the status; append to it before the RPC ends."""
        if self._trailing is None:
            self._trailing = []
        return self._trailing

    @property
    def peer(self) -> str:
        """Address of the caller in gRPC's notation, such as "ipv4:127.0.0.1:5000"."""
        return self._call.peer

    @property
    def deadline(self) -> Deadline:
        """When the caller stops waiting."""
        at = self._call.deadline
        if at == float("inf"):
            return NEVER
        return Deadline(monotonic() + int((at - time.time()) * NANOSECONDS))

    @property
    def cancelled(self) -> bool:
        """Whether the caller has gone: it cancelled, its deadline passed, or its connection broke.

        Seen while the RPC waits for a future or a coroutine. During `execute` itself the thread that
        would learn of it is the one that runs `execute`.
        """
        return self._cancelled

    @property
    def elapsed(self) -> float:
        """Seconds since this RPC got its context."""
        return (monotonic() - self._accepted) / NANOSECONDS
