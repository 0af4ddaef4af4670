"""A KServe v2 server as its protocol has it, over gRPC or HTTP."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol, Self

from google.protobuf.message import Message

from yais.client.connection import Connection
from yais.client.transport import Transport
from yais.errors import InvalidArgument

__all__ = ["Endpoint", "connect"]


class Endpoint(Protocol):
    """A server. Thread-safe; a context manager that closes what it opened."""

    connection: Connection
    protocol: str

    def call(self, rpc: str, request: Message) -> Any:
        """Call one of the RPCs without tensors, "ModelMetadata" for example, and return its response message.

        Over HTTP the route that corresponds is asked, and its JSON returned as the same message.

        Raises
        ------
        YaisError
            With the server's status and message; Unavailable where it cannot be reached.
        """

    def transport(self) -> Transport:
        """Return what carries single requests, on connections of its own."""

    def stream_transport(self, streams: int = 1) -> Transport:
        """Return what carries requests on streams, taken in turn, on a connection of its own.

        Raises
        ------
        Unimplemented
            Over HTTP there are none.
        """

    def close(self) -> None:
        """Close what was opened here, transports too."""

    def __enter__(self) -> Self:
        """Return the endpoint itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""


def connect(connection: Connection, protocol: str = "grpc") -> Endpoint:
    """Return a server's endpoint; nothing is connected yet.

    Parameters
    ----------
    protocol
        "grpc" or "http".

    Raises
    ------
    InvalidArgument
        The protocol is neither, the address is none of it, or a header or a certificate cannot be used.
    """
    if protocol not in {"grpc", "http"}:
        raise InvalidArgument(f"got protocol {protocol!r}, expected 'grpc' or 'http'")
    if protocol == "grpc":
        from yais.client.grpc_endpoint import GrpcEndpoint

        return GrpcEndpoint(connection)
    from yais.client.http_endpoint import HttpEndpoint

    return HttpEndpoint(connection)
