"""Calls with many replies, with many requests, or both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from google.protobuf.descriptor import MethodDescriptor

from yais.errors import InvalidArgument
from yais.rpc.client.channels import Channels
from yais.rpc.client.method import CallMetadata, CallTimeout, ClientMethod
from yais.rpc.client.reply_stream import ReplyStream
from yais.rpc.client.write_stream import WriteStream

__all__ = ["ClientServerStreaming", "ClientStreaming"]

Request = TypeVar("Request")
Reply = TypeVar("Reply")


class ClientServerStreaming(Generic[Request, Reply]):
    """Calls one method with one request and many replies. Thread-safe.

    Parameters
    ----------
    channels, method, serialize, deserialize
        As for `ClientUnary`.
    timeout
        Seconds a call may take unless it says otherwise; None for no limit.
    max_replies
        Replies of a call that are kept unread; the server waits while there are as many.

    Raises
    ------
    InvalidArgument
        The path is none, the method is of another kind, or a limit is below 1.

    Examples
    --------
    >>> for reply in watch.open(request): ...
    >>> async for reply in watch.open(request): ...
    >>> watch.open(request, on_reply=print).status.add_done_callback(...)
    """

    def __init__(
        self,
        channels: Channels,
        method: str | MethodDescriptor,
        serialize: Callable[[Request], bytes] | None = None,
        deserialize: Callable[[bytes], Reply] | None = None,
        *,
        timeout: float | None = 3600.0,
        max_replies: int = 16,
    ) -> None:
        self._channels = channels
        self._method = ClientMethod(method, serialize, deserialize, timeout, (False, True))
        self._max_replies = _at_least_one(max_replies, "max_replies")

    def __repr__(self) -> str:
        return f"<ClientServerStreaming {self._method.path} at {self._channels.target}>"

    def open(
        self,
        request: Request,
        *,
        timeout: CallTimeout = ...,
        metadata: CallMetadata | None = None,
        wait_for_ready: bool = False,
        on_reply: Callable[[Reply], object] | None = None,
    ) -> ReplyStream[Reply]:
        """Begin a call; returns at once.

        Parameters
        ----------
        timeout, metadata, wait_for_ready
            As for `ClientUnary.submit`.
        on_reply
            Called with each reply, in order, instead of iterating. What it raises ends the call with the
            status of the error.

        Raises
        ------
        InvalidArgument
            The metadata cannot be sent, or the request is no bytes where bytes are wanted.
        FailedPrecondition
            The channels are closed.
        """
        message = self._method.encode(request)
        options = self._method.start_options(timeout, metadata, wait_for_ready)
        stream: ReplyStream[Reply] = ReplyStream(
            self._channels.take(), self._method, on_reply, self._max_replies
        )
        stream._open(message, options)
        return stream


class ClientStreaming(Generic[Request, Reply]):
    """Calls one method with many requests, and one reply or many. Thread-safe.

    Parameters
    ----------
    channels, method, serialize, deserialize, timeout, max_replies
        As for `ClientServerStreaming`.
    max_unsent
        Messages of a call that wait to be sent; a writer waits while there are as many.

    Examples
    --------
    >>> with chat.open() as stream:
    ...     stream.write(request)
    ...     print(next(stream))
    ...     stream.done().result().check()

    >>> async with chat.open() as stream:
    ...     await stream.awrite(request)
    ...     stream.done()
    ...     async for reply in stream: ...
    """

    def __init__(
        self,
        channels: Channels,
        method: str | MethodDescriptor,
        serialize: Callable[[Request], bytes] | None = None,
        deserialize: Callable[[bytes], Reply] | None = None,
        *,
        timeout: float | None = 3600.0,
        max_replies: int = 16,
        max_unsent: int = 16,
    ) -> None:
        self._channels = channels
        self._method = ClientMethod(method, serialize, deserialize, timeout, (True, None))
        self._max_replies = _at_least_one(max_replies, "max_replies")
        self._max_unsent = _at_least_one(max_unsent, "max_unsent")

    def __repr__(self) -> str:
        return f"<ClientStreaming {self._method.path} at {self._channels.target}>"

    def open(
        self,
        *,
        timeout: CallTimeout = ...,
        metadata: CallMetadata | None = None,
        wait_for_ready: bool = False,
        on_reply: Callable[[Reply], object] | None = None,
        corked: bool = False,
    ) -> WriteStream[Request, Reply]:
        """Begin a call; returns at once. See `ClientServerStreaming.open`.

        Parameters
        ----------
        corked
            Keep what is written, and the headers, until `WriteStream.uncork`.
        """
        options = self._method.start_options(timeout, metadata, wait_for_ready)
        stream: WriteStream[Request, Reply] = WriteStream(
            self._channels.take(), self._method, on_reply, self._max_replies, self._max_unsent, corked
        )
        stream._open(None, options)
        return stream


def _at_least_one(limit: int, name: str) -> int:
    if limit < 1:
        raise InvalidArgument(f"got {name} {limit}, expected at least 1")
    return limit
