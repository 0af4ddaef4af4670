"""Addresses of callers, in gRPC's notation, taken apart."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

__all__ = ["Peer"]


class Peer(NamedTuple):
    """Where a call comes from.

    Attributes
    ----------
    family
        "ipv4", "ipv6", "unix", ...; "" where gRPC gives none.
    address
        The host's address for ipv4 and ipv6, without brackets; otherwise all that follows the family.
    port
        None if the family has none.
    """

    family: str
    address: str
    port: int | None

    @classmethod
    def parse(cls, peer: str) -> Peer:
        """Take apart what gRPC says: "ipv4:10.0.0.1:5000", "ipv6:%5B::1%5D:5000", "unix:/run/x.sock"."""
        family, colon, rest = peer.partition(":")
        if not colon:
            return cls("", peer, None)
        if family in {"ipv4", "ipv6"}:
            address, _, port = unquote(rest).rpartition(":")
            if address and port.isdecimal():
                return cls(family, address.removeprefix("[").removesuffix("]"), int(port))
        return cls(family, rest, None)
