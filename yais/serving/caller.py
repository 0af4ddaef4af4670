"""What is known of a call, whichever way it came in."""

from __future__ import annotations

from typing import Protocol

from yais.core.clock import Deadline
from yais.rpc.metadata import Metadata

__all__ = ["Caller"]


class Caller(Protocol):
    """A call; `yais.rpc.context.Context` is one.

    Attributes
    ----------
    accepted
        When it arrived, ns of `yais.core.clock.monotonic`.
    waited
        How long it waited for its turn to be served, ns.
    protocol
        "GRPC" or "HTTP".
    """

    accepted: int
    waited: int
    protocol: str

    @property
    def deadline(self) -> Deadline:
        """When the caller stops waiting."""

    @property
    def metadata(self) -> Metadata:
        """What it sent beside its request."""
