"""gRPC or HTTP, for commands that speak both."""

from __future__ import annotations

import click

__all__ = ["DEFAULT_ADDRESSES", "protocol_of", "protocol_option"]

DEFAULT_ADDRESSES = {"grpc": "localhost:8001", "http": "localhost:8000"}
"""Where a server is that no address is given of, by protocol."""

protocol_option = click.option(
    "--protocol",
    "-i",
    type=click.Choice(["grpc", "http"], case_sensitive=False),
    help="Protocol; by default gRPC, for an address that begins with http:// or https:// HTTP.",
)


def protocol_of(address: str | None, given: str | None) -> str:
    """Return the protocol that is given, else that of an address."""
    return given or ("http" if (address or "").startswith(("http://", "https://")) else "grpc")
