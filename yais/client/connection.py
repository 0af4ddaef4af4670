"""How to reach a server: its address, TLS, and what each request says of its caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Connection"]


@dataclass(frozen=True, slots=True)
class Connection:
    """A server and the way to it.

    Attributes
    ----------
    address
        "host:port"; for gRPC anything in its notation.
    tls
        Whether to encrypt; implied by the files.
    ca, certificate, key
        Contents of PEM files: the roots to trust (by default the system's), and what the client shows.
    server_name
        Name that the server's certificate must have, where it is not that of the address.
    headers
        Sent with each request: metadata of gRPC (in lower case), headers of HTTP.
    timeout
        Seconds a request may take.
    """

    address: str
    tls: bool = False
    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    server_name: str | None = None
    headers: Sequence[tuple[str, str]] = ()
    timeout: float = 30.0

    @property
    def encrypted(self) -> bool:
        """Whether TLS is used."""
        return self.tls or any(part is not None for part in (self.ca, self.certificate, self.key))
