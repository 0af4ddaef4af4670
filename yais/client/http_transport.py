"""Requests over HTTP."""

from __future__ import annotations

from collections.abc import Sequence

from yais.client.http_connection import HttpReply
from yais.client.http_message import HEADER_LENGTH, answer_of_reply, body_of, infer_path, status_of_reply
from yais.client.http_peer import HttpPeer
from yais.client.http_pool import HttpPool
from yais.client.infer_call import InferAnswer, InferCall
from yais.client.transport import Done
from yais.errors import Code

__all__ = ["HttpTransport"]


class HttpTransport:
    """Carries requests, each on a connection of its own while it is in flight. See `Transport`.

    Requests are bytes as they are on the wire, replies are `HttpReply`.

    Parameters
    ----------
    pool
        What to send on; closed with this.
    peer
        The server.
    """

    def __init__(self, pool: HttpPool, peer: HttpPeer) -> None:
        self._pool = pool
        self._peer = peer

    def __repr__(self) -> str:
        return f"<HttpTransport to {self._peer}>"

    def encode(self, call: InferCall) -> bytes:
        """Return a request with its body."""
        body, length = body_of(call)
        headers = (("Content-Type", "application/octet-stream"), (HEADER_LENGTH, str(length)))
        return self._peer.head("POST", infer_path(call), headers, len(body)) + body

    def send(self, request: bytes, done: Done) -> None:
        """Send a request."""

        def ended(code: Code, text: str, reply: HttpReply | None) -> None:
            if reply is not None and reply.status != 200:
                code, text = status_of_reply(reply)
            done(code, text, reply)

        self._pool.send(request, ended)

    def answers(self, reply: HttpReply) -> Sequence[InferAnswer]:
        """Return the one answer of a response."""
        return (answer_of_reply(reply),)

    def close(self) -> None:
        """See `Transport`."""
        self._pool.close()
