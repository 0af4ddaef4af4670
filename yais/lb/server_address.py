"""The address of a server behind a load balancer."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from yais.errors import InvalidArgument

__all__ = ["ServerAddress", "is_address"]

_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server is, or with a DNS name all servers that it stands for.

    Attributes
    ----------
    host
        A numeric address, IPv6 without brackets, or a name.
    port
        Of gRPC.

    Raises
    ------
    InvalidArgument
        The host is neither an address nor a name, or the port is not one.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        if not 0 < self.port < 65536:
            raise InvalidArgument(f"got port {self.port}, expected 1 to 65535")
        if not self.numeric and not _is_name(self.host):
            raise InvalidArgument(f"got host {self.host!r}, expected an IP address or a DNS name")

    @classmethod
    def parse(cls, text: str) -> ServerAddress:
        """Return the address that a text names: "10.0.0.1:8001", "[::1]:8001", "yais.example:8001".

        Raises
        ------
        InvalidArgument
            It names none.
        """
        host, colon, port = text.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        bracketed = host == f"[{bare}]"
        if not colon or not (port.isascii() and port.isdecimal()) or bracketed != (":" in bare):
            raise InvalidArgument(
                f"got server {text!r}, expected HOST:PORT such as 10.0.0.1:8001, [::1]:8001 or name:8001"
            )
        return cls(bare, int(port))

    @property
    def numeric(self) -> bool:
        """Whether the host is an IP address, and no name to be resolved."""
        return is_address(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_address(host: str) -> bool:
    """Return whether this is an IP address, without a scope."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host  # a scope may be any text


def _is_name(host: str) -> bool:
    last = host.rstrip(".").rpartition(".")[2]
    return len(host) <= 253 and _NAME.fullmatch(host) is not None and not last.isdecimal()
