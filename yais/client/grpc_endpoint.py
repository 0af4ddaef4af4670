"""A KServe v2 server over gRPC."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from yais.client.connection import Connection
from yais.client.inference_service import SERVICE, service_method
from yais.client.stream_transport import StreamTransport
from yais.client.transport import Transport
from yais.client.unary_transport import UnaryTransport
from yais.errors import Internal, InvalidArgument
from yais.rpc.client import Channels
from yais.rpc.completion_queue import checked_metadata

__all__ = ["GrpcEndpoint"]

# Without gRPC's layers for retries, compression of requests and limits of size, of which transports use
# none: a tenth to a fifth of what a client spends on a call. A call that a server refuses while it goes away
# is then not tried again on a new connection: it counts, as it should in a measurement.
_LEAN = ("grpc.minimal_stack", 1)


class GrpcEndpoint:
    """See `yais.client.endpoint.Endpoint`.

    Raises
    ------
    InvalidArgument
        A header cannot be sent.
    """

    protocol = "grpc"

    def __init__(self, connection: Connection) -> None:
        _check_headers(connection)
        self.connection = connection
        self._channels = self._connect()
        self._transports: list[Transport] = []

    def __repr__(self) -> str:
        return f"<GrpcEndpoint {self.connection.address}>"

    def call(self, rpc: str, request: Message) -> Any:
        """Call an RPC without tensors."""
        method = service_method(self._channels, rpc, self.connection.timeout)
        return method.call(request, metadata=self.connection.headers)

    def transport(self) -> Transport:
        """Return what carries ModelInfer."""
        return self.method_transport(f"{SERVICE}ModelInfer")

    def method_transport(self, method: str) -> UnaryTransport:
        """Return what carries calls of any unary method.

        For those of others than ModelInfer, `encode` and `answers` mean nothing.
        """
        transport = UnaryTransport(self._connect(_LEAN), method, self.connection)
        self._transports.append(transport)
        return transport

    def stream_transport(self, streams: int = 1) -> Transport:
        """Return what carries requests on ModelStreamInfer."""
        channels = self._connect(_LEAN)
        transport = StreamTransport(channels, f"{SERVICE}ModelStreamInfer", self.connection, streams)
        self._transports.append(transport)
        return transport

    def close(self) -> None:
        """Disconnect."""
        for transport in self._transports:
            transport.close()
        self._channels.close()

    def __enter__(self) -> Self:
        """Return the endpoint itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _connect(self, *further: tuple[str, Any]) -> Channels:
        # A connection of its own for each transport: closing one leaves the others, and calls do not wait
        # for the load.
        connection = self.connection
        options: list[tuple[str, Any]] = [("grpc.max_send_message_length", -1), *further]
        if connection.server_name is not None:
            options.append(("grpc.ssl_target_name_override", connection.server_name))
        return Channels(
            connection.address, tls=_credentials(connection), max_message_bytes=-1, options=options
        )


def _check_headers(connection: Connection) -> None:
    try:
        checked_metadata(connection.headers)
    except Internal as error:
        raise InvalidArgument(f"headers: {error}") from None


def _credentials(connection: Connection) -> grpc.ChannelCredentials | None:
    if not connection.encrypted:
        return None
    return grpc.ssl_channel_credentials(connection.ca, connection.key, connection.certificate)
