"""Passes unary RPCs on to another server, whatever their messages are."""

from __future__ import annotations

from typing import ClassVar

import yais
from yais.rpc.client import Call, Channels, ClientUnary


class Target(yais.Resources):
    """The server behind, and the RPCs that are passed on to it."""

    def __init__(self, address: str, service: str, *rpcs: str) -> None:
        self.channels = Channels(address)
        self.rpcs: dict[str, ClientUnary[bytes, bytes]] = {
            rpc: ClientUnary(self.channels, f"/{service}/{rpc}") for rpc in rpcs
        }


class Forward(yais.Context[bytes, bytes, Target]):
    """One RPC, passed on with its metadata and deadline; and its answer, whether a reply or an error.

    A caller that goes away cancels the call behind as well.
    """

    rpc: ClassVar[str]

    def preprocess(self, request: bytes) -> bytes:
        """Return what is sent instead of the request; what this raises ends the RPC."""
        return request

    def execute(self, request: bytes) -> Call[bytes]:
        call = self.resources.rpcs[self.rpc].submit(
            self.preprocess(request), timeout=self.deadline.remaining(), metadata=self.metadata
        )
        call.add_done_callback(self.pass_metadata_back)
        return call

    def pass_metadata_back(self, call: Call[bytes]) -> None:
        if not call.cancelled():
            self.initial_metadata.extend(call.initial_metadata().pairs())
            self.trailing_metadata.extend(call.trailing_metadata().pairs())
