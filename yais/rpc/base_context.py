"""What contexts of every kind have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from yais.core.clock import NANOSECONDS, Deadline, monotonic
from yais.rpc.completion_queue import MetadataItem, ServerCall, compression_header
from yais.rpc.metadata import Metadata
from yais.rpc.resources import Resources

__all__ = ["BaseContext"]

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")
ResourcesT = TypeVar("ResourcesT", bound=Resources)


class BaseContext(Generic[RequestT, ReplyT, ResourcesT]):
    """One RPC. Users subclass the kind they need: `Context`, `StreamingContext` and so on.

    A fresh instance serves each RPC; its class must be constructible without arguments. How many may be
    in flight at once is said when the class is registered (`Service.register`).

    Attributes
    ----------
    resources
        The server's `Resources`.
    """

    resources: ResourcesT
    _compression: str | None = None
    _call: ServerCall
    _identity: str | None = None  # given by an interceptor
    _accepted: int  # moment of arrival, ns of `monotonic`
    _cancelled = False
    _initial: list[MetadataItem] | None = None
    _trailing: list[MetadataItem] | None = None

    def on_start(self) -> None:
        """Run before anything else, on the executor's thread. What it raises ends the RPC."""

    def on_cancel(self) -> None:
        """Run when the caller has gone: it cancelled, its deadline passed, or its connection broke.

        On the executor's thread, at most once. Seen while the RPC waits for something: not while the
        executor's thread, which would learn of it, runs code of the context.
        """

    def on_finish(self) -> None:
        """Run when the RPC is over, whatever came of it, on the executor's thread."""

    @property
    def metadata(self) -> Metadata:
        """What the caller sent beside its requests."""
        return Metadata(self._call.metadata)

    @property
    def initial_metadata(self) -> list[MetadataItem]:
        """Pairs to send before the first answer; append to it before that is sent."""
        if self._initial is None:
            self._initial = []
        return self._initial

    @property
    def trailing_metadata(self) -> list[MetadataItem]:
        """Pairs to send with the status; append to it before the RPC ends."""
        if self._trailing is None:
            self._trailing = []
        return self._trailing

    @property
    def compression(self) -> str | None:
        """How what is sent is compressed; set it before anything is sent.

        "gzip", "deflate", "identity" (not at all), or None for what the server does by default
        (`Transport`). Setting it to anything else raises ValueError.
        """
        return self._compression

    @compression.setter
    def compression(self, algorithm: str | None) -> None:
        if algorithm not in {None, "gzip", "deflate", "identity"}:
            raise ValueError(f"got compression {algorithm!r}, expected 'gzip', 'deflate', 'identity' or None")
        self._compression = algorithm

    @property
    def peer(self) -> str:
        """Address of the caller in gRPC's notation, such as "ipv4:127.0.0.1:5000"."""
        return self._call.peer

    @property
    def identity(self) -> str | None:
        """Who calls: by what an interceptor says, or by its certificate under mutual TLS; None if unknown."""
        return self._identity or self._call.identity

    @property
    def deadline(self) -> Deadline:
        """When the caller stops waiting."""
        return self._call.due

    @property
    def cancelled(self) -> bool:
        """Whether the caller has gone; known when `on_cancel` is called."""
        return self._cancelled

    @property
    def elapsed(self) -> float:
        """Seconds since this RPC got its context."""
        return (monotonic() - self._accepted) / NANOSECONDS

    def _headers(self) -> Sequence[MetadataItem]:
        initial = self._initial or ()
        return initial if self._compression is None else (compression_header(self._compression), *initial)
