"""Requests as unary calls, each on gRPC core's channel itself: no future, no decoding, one callback."""

from __future__ import annotations

import time
from collections.abc import Sequence

from yais.client.connection import Connection
from yais.client.infer_call import InferAnswer, InferCall
from yais.client.infer_message import answer_of, request_of
from yais.client.transport import Done
from yais.protocol import kserve_pb2 as pb
from yais.rpc.client import Channels
from yais.rpc.client.method import ClientMethod
from yais.rpc.completion_queue import MetadataItem
from yais.rpc.core_channel import CoreCall, CoreStatus

__all__ = ["UnaryTransport"]


class UnaryTransport:
    """Carries calls of one unary method; requests and replies are bytes. See `Transport`.

    Parameters
    ----------
    channels
        One connection; closed with this.

    Raises
    ------
    InvalidArgument
        The method is none.
    """

    def __init__(self, channels: Channels, method: str, connection: Connection) -> None:
        self._channels = channels
        self._channel = channels.take()
        self._method = ClientMethod(method, None, None, None, (False, False)).core_path
        self._metadata = tuple(connection.headers)
        self._timeout = connection.timeout

    def __repr__(self) -> str:
        return f"<UnaryTransport {self._method.decode()}>"

    def encode(self, call: InferCall) -> bytes:
        """Return a ModelInferRequest."""
        return request_of(call).SerializeToString()

    def send(self, request: bytes, done: Done) -> None:
        """Call the method."""

        def finished(reply: bytes | None, status: CoreStatus, _headers: Sequence[MetadataItem]) -> None:
            done(status.code, status.message, reply)

        CoreCall(self._channel).unary(
            self._method,
            request,
            at=time.time() + self._timeout,
            metadata=self._metadata,
            flags=0,
            done=finished,
        )

    def answers(self, reply: bytes) -> Sequence[InferAnswer]:
        """Return the one answer of a ModelInferResponse."""
        return (answer_of(pb.ModelInferResponse.FromString(reply)),)

    def close(self) -> None:
        """See `Transport`."""
        self._channels.close()
