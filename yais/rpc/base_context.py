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
    in flight at once is said when the class is registered (`Service.register`). Attributes are yours to
    make, except that names which begin with "_rpc_" are the framework's.

    Attributes
    ----------
    resources
        The server's `Resources`.
    accepted
        When this RPC arrived, in nanoseconds of `yais.core.clock.monotonic`.
    waited
        Nanoseconds that it waited for a context, as far as the server knows: see `MethodStatistics.waiting`.
    """

    resources: ResourcesT
    accepted: int
    waited: int
    _rpc_compression: str | None = None
    _rpc_call: ServerCall
    _rpc_identity: str | None = None  # given by an interceptor
    _rpc_cancelled = False
    _rpc_initial: list[MetadataItem] | None = None
    _rpc_trailing: list[MetadataItem] | None = None

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
        return Metadata(self._rpc_call.metadata)

    @property
    def initial_metadata(self) -> list[MetadataItem]:
        """Pairs to send before the first answer; append to it before that is sent."""
        if self._rpc_initial is None:
            self._rpc_initial = []
        return self._rpc_initial

    @initial_metadata.setter
    def initial_metadata(self, pairs: list[MetadataItem]) -> None:
        self.initial_metadata[:] = pairs

    @property
    def trailing_metadata(self) -> list[MetadataItem]:
        """Pairs to send with the status; append to it before the RPC ends."""
        if self._rpc_trailing is None:
            self._rpc_trailing = []
        return self._rpc_trailing

    @trailing_metadata.setter
    def trailing_metadata(self, pairs: list[MetadataItem]) -> None:
        self.trailing_metadata[:] = pairs

    @property
    def compression(self) -> str | None:
        """How what is sent is compressed; set it before anything is sent.

        "gzip", "deflate", "identity" (not at all), or None for what the server does by default
        (`Transport`). Setting it to anything else raises ValueError.
        """
        return self._rpc_compression

    @compression.setter
    def compression(self, algorithm: str | None) -> None:
        if algorithm not in {None, "gzip", "deflate", "identity"}:
            raise ValueError(f"got compression {algorithm!r}, expected 'gzip', 'deflate', 'identity' or None")
        self._rpc_compression = algorithm

    @property
    def peer(self) -> str:
        """Address of the caller in gRPC's notation, such as "ipv4:127.0.0.1:5000"."""
        return self._rpc_call.peer

    @property
    def identity(self) -> str | None:
        """Who calls: by what an interceptor says, or by its certificate under mutual TLS; None if unknown."""
        return self._rpc_identity or self._rpc_call.identity

    @property
    def deadline(self) -> Deadline:
        """When the caller stops waiting."""
        return self._rpc_call.due

    @property
    def cancelled(self) -> bool:
        """Whether the caller has gone; known when `on_cancel` is called."""
        return self._rpc_cancelled

    @property
    def elapsed(self) -> float:
        """Seconds since this RPC arrived."""
        return (monotonic() - self.accepted) / NANOSECONDS

    def _rpc_headers(self) -> Sequence[MetadataItem]:
        initial = self._rpc_initial or ()
        return (
            initial
            if self._rpc_compression is None
            else (compression_header(self._rpc_compression), *initial)
        )
