"""Methods as their caller knows them: path, codecs, and what every call of them is begun with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import EllipsisType
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from yais.errors import Internal, InvalidArgument
from yais.rpc.completion_queue import MetadataItem, checked_metadata
from yais.rpc.core_channel import WAIT_FOR_READY
from yais.rpc.metadata import Metadata

__all__ = ["CallMetadata", "CallTimeout", "ClientMethod"]

CallMetadata = Mapping[str, str | bytes] | Sequence[MetadataItem]
"""Headers to send: a mapping, or pairs where a key occurs more than once."""

CallTimeout = float | EllipsisType | None
"""Seconds a call may take, None for no limit, `...` for the default of its client."""


class ClientMethod:
    """A method and its codecs.

    Parameters
    ----------
    method
        The descriptor of a protobuf method, or the path "/package.Service/Method".
    serialize, deserialize
        Request to bytes, bytes to reply. By default what the descriptor says; with a path, messages are
        bytes as they are.
    timeout
        Seconds a call may take unless it says otherwise.
    streams
        Whether there are many requests, and many replies; None where either will do.

    Raises
    ------
    InvalidArgument
        The path is none, or the method is of another kind.
    """

    def __init__(
        self,
        method: str | MethodDescriptor,
        serialize: Callable[[Any], bytes] | None,
        deserialize: Callable[[bytes], Any] | None,
        timeout: float | None,
        streams: tuple[bool, bool | None],
    ) -> None:
        if isinstance(method, MethodDescriptor):
            self._check_kind(method, streams)
            path = f"/{method.containing_service.full_name}/{method.name}"
            serialize = serialize or GetMessageClass(method.input_type).SerializeToString
            deserialize = deserialize or GetMessageClass(method.output_type).FromString
        else:
            path = method
        if path.count("/") != 2 or not path.startswith("/") or not path.isascii():
            raise InvalidArgument(f"got method {path!r}, expected '/package.Service/Method'")
        self.path = path
        self.core_path = path.encode()
        self.timeout = timeout
        self._serialize = serialize or _raw
        self._deserialize = deserialize or _same

    @staticmethod
    def _check_kind(method: MethodDescriptor, streams: tuple[bool, bool | None]) -> None:
        got = (method.client_streaming, method.server_streaming)
        if any(want not in {None, have} for want, have in zip(streams, got, strict=True)):
            raise InvalidArgument(f"got method {method.full_name}, {_kind(got)}, expected {_kind(streams)}")

    def encode(self, request: Any) -> bytes:
        """Return the bytes of a request.

        Raises
        ------
        InvalidArgument
            `serialize` returned something else than bytes. What it raises goes to the caller.
        """
        message = self._serialize(request)
        if type(message) is not bytes:
            raise InvalidArgument(f"{self.path}: serialize returned {type(message).__name__}, expected bytes")
        return message

    def decode(self, message: bytes) -> Any:
        """Return a reply.

        Raises
        ------
        Internal
            `deserialize` raised.
        """
        try:
            return self._deserialize(message)
        except Exception as error:
            raise Internal(
                f"{self.path}: got a reply of {len(message)} bytes that cannot be read: {error}"
            ) from error

    def start_options(
        self, timeout: CallTimeout, metadata: CallMetadata | None, wait_for_ready: bool
    ) -> dict[str, Any]:
        """Return the arguments of the same names of `CoreCall`.

        Raises
        ------
        InvalidArgument
            The metadata cannot be sent.
        """
        seconds = self.timeout if isinstance(timeout, EllipsisType) else timeout
        return {
            "at": None if seconds is None else time.time() + seconds,
            "metadata": _sendable(metadata) if metadata else (),
            "flags": WAIT_FOR_READY if wait_for_ready else 0,
        }


def _sendable(metadata: CallMetadata) -> Sequence[MetadataItem]:
    """Return metadata as pairs that gRPC can send; raise InvalidArgument if they are not."""
    pairs: Sequence[MetadataItem]
    match metadata:
        case Metadata():
            pairs = metadata.pairs()
        case Mapping():
            pairs = tuple(metadata.items())
        case _:
            pairs = metadata
    try:
        return checked_metadata(pairs)
    except Internal as error:
        raise InvalidArgument(f"metadata: {error}") from None


def _kind(streams: tuple[bool, bool | None]) -> str:
    requests = "many requests" if streams[0] else "one request"
    replies = {True: "many replies", False: "one reply", None: "any number of replies"}[streams[1]]
    return f"{requests} and {replies}"


def _raw(message: Any) -> bytes:
    if not isinstance(message, bytes | bytearray | memoryview):
        raise InvalidArgument(
            f"got a message of type {type(message).__name__}, expected bytes: no serialize function was given"
        )
    return bytes(message)


def _same(message: bytes) -> bytes:
    return message
