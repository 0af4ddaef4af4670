"""A KServe v2 server over HTTP."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from google.protobuf.message import Message

from yais.client.connection import Connection
from yais.client.http_connection import HttpReply
from yais.client.http_peer import HttpPeer
from yais.client.http_pool import HttpPool
from yais.client.http_routes import route_of
from yais.client.http_transport import HttpTransport
from yais.client.inference_service import response_type
from yais.client.transport import Transport
from yais.core.future import Future
from yais.core.loop_thread import LoopThread
from yais.errors import Code, FailedPrecondition, Unimplemented, error_of

__all__ = ["HttpEndpoint"]

_END = 5.0  # seconds that the loop's thread is given to end


class HttpEndpoint:
    """See `yais.client.endpoint.Endpoint`.

    Raises
    ------
    InvalidArgument
        The address is not "host:port", or a header or a certificate cannot be used.
    """

    protocol = "http"

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._peer = HttpPeer(connection)
        self._loop = LoopThread("yais-http")
        self._pool = self._new_pool()
        self._transports: list[HttpTransport] = []

    def __repr__(self) -> str:
        return f"<HttpEndpoint {self.connection.address}>"

    def call(self, rpc: str, request: Message) -> Any:
        """Ask the route of an RPC without tensors."""
        if self._loop.on_thread:
            raise FailedPrecondition("a callback must not wait for a call of its own endpoint")
        route = route_of(rpc)
        method, path, body = route.request(request)
        headers = (("Content-Type", "application/json"),) if body else ()
        ended: Future[HttpReply] = Future()

        def done(code: Code, text: str, reply: HttpReply | None) -> None:
            if reply is None:
                ended.set_exception(error_of(code, text))
            else:
                ended.set_result(reply)

        self._pool.send(self._peer.head(method, path, headers, len(body)) + body, done)
        return route.response(response_type(rpc)(), ended.result())

    def transport(self) -> Transport:
        """Return what carries inference requests, on connections of its own."""
        transport = HttpTransport(self._new_pool(), self._peer)
        self._transports.append(transport)
        return transport

    def stream_transport(self, streams: int = 1) -> Transport:
        """Raise Unimplemented."""
        raise Unimplemented(f"got {streams} streams to ask for over HTTP, expected gRPC, which has them")

    def close(self) -> None:
        """Disconnect."""
        for transport in self._transports:
            transport.close()
        self._pool.close()
        if not self._loop.on_thread:
            self._loop.close(_END)

    def __enter__(self) -> Self:
        """Return the endpoint itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _new_pool(self) -> HttpPool:
        return HttpPool(self._loop, self._peer, self.connection.timeout)
