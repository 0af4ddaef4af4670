"""Unary calls: one request, one reply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, overload

from google.protobuf.descriptor import MethodDescriptor

from yais.core.future import Future
from yais.errors import Code, FailedPrecondition
from yais.rpc.client.channels import Channels
from yais.rpc.client.method import CallMetadata, CallTimeout, ClientMethod
from yais.rpc.client.status import Status
from yais.rpc.completion_queue import MetadataItem
from yais.rpc.core_channel import CoreCall, CoreStatus
from yais.rpc.metadata import Metadata

__all__ = ["Call", "ClientUnary"]

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Result = TypeVar("Result")
T = TypeVar("T")


class ClientUnary(Generic[Request, Reply]):
    """Calls one unary method. Thread-safe.

    Parameters
    ----------
    channels
        Where to; closing them cancels the calls.
    method
        The descriptor of a protobuf method, or the path "/package.Service/Method".
    serialize, deserialize
        Request to bytes, bytes to reply. By default what the descriptor says; with a path, messages are
        bytes as they are.
    timeout
        Seconds a call may take unless it says otherwise; None for no limit.

    Raises
    ------
    InvalidArgument
        The path is none, or the method is not unary.

    Examples
    --------
    >>> reply = say.call(EchoRequest(text="hello"), timeout=1.0)          # blocking
    >>> future = say.submit(EchoRequest(text="hello"))                    # a future
    >>> future.add_done_callback(lambda call: print(call.result().text))
    >>> reply = await say.submit(EchoRequest(text="hello"))               # asyncio
    """

    def __init__(
        self,
        channels: Channels,
        method: str | MethodDescriptor,
        serialize: Callable[[Request], bytes] | None = None,
        deserialize: Callable[[bytes], Reply] | None = None,
        *,
        timeout: float | None = 30.0,
    ) -> None:
        self._channels = channels
        self._method = ClientMethod(method, serialize, deserialize, timeout, (False, False))

    def __repr__(self) -> str:
        return f"<ClientUnary {self._method.path} at {self._channels.target}>"

    def call(
        self,
        request: Request,
        *,
        timeout: CallTimeout = ...,
        metadata: CallMetadata | None = None,
        wait_for_ready: bool = False,
    ) -> Reply:
        """Call and wait for the reply; see `submit`. Raises the error of a status other than OK."""
        return self.submit(
            request, timeout=timeout, metadata=metadata, wait_for_ready=wait_for_ready
        ).result()

    @overload
    def submit(
        self,
        request: Request,
        *,
        timeout: CallTimeout = ...,
        metadata: CallMetadata | None = None,
        wait_for_ready: bool = False,
        then: None = None,
    ) -> Call[Reply]: ...

    @overload
    def submit(
        self,
        request: Request,
        *,
        timeout: CallTimeout = ...,
        metadata: CallMetadata | None = None,
        wait_for_ready: bool = False,
        then: Callable[[Reply], Result],
    ) -> Call[Result]: ...

    def submit(
        self,
        request: Request,
        *,
        timeout: CallTimeout = ...,
        metadata: CallMetadata | None = None,
        wait_for_ready: bool = False,
        then: Callable[[Reply], Any] | None = None,
    ) -> Call[Any]:
        """Call; returns at once.

        Parameters
        ----------
        timeout
            Seconds the call may take; None for no limit; by default the client's.
        metadata
            Headers to send.
        wait_for_ready
            Wait for a connection as long as the call may take, instead of failing with Unavailable.
        then
            Called with the reply; what it returns, or raises, is the result of the future.

        Returns
        -------
        Call
            A future that fails with the `YaisError` of the server's status.

        Raises
        ------
        InvalidArgument
            The metadata cannot be sent, or the request is no bytes where bytes are wanted.
        FailedPrecondition
            The channels are closed.
        """
        method = self._method
        message = method.encode(request)
        options = method.start_options(timeout, metadata, wait_for_ready)
        call: Call[Any] = Call(CoreCall(self._channels.take()), method, then)
        call._start(message, options)
        return call


class Call(Future[T]):
    """The result of a unary call. Cancelling it, or a task that awaits it, cancels the call.

    Once cancelled by `cancel`, `result` raises `concurrent.futures.CancelledError` as any future does. A
    call that anybody else cancelled, the server or the closing of the channels, fails with
    `yais.Cancelled`.
    """

    def __init__(self, core: CoreCall, method: ClientMethod, then: Callable[[Any], T] | None) -> None:
        super().__init__()
        self._core = core
        self._method = method
        self._then = then
        self._status = CoreStatus(Code.CANCELLED, "cancelled by the caller", ())
        self._headers: Sequence[MetadataItem] = ()

    def _start(self, message: bytes, options: dict[str, Any]) -> None:
        self._core.unary(self._method.core_path, message, done=self._finished, **options)

    def _finished(self, message: bytes | None, status: CoreStatus, headers: Sequence[MetadataItem]) -> None:
        if not self.set_running_or_notify_cancel():
            return
        self._headers = headers
        self._status = status
        try:
            if message is None or status.code is not Code.OK:
                if status.code is Code.OK:
                    self._status = CoreStatus(
                        Code.INTERNAL, f"{self._method.path}: got OK without a reply", ()
                    )
                raise Status.of(self._status).error()
            reply = self._method.decode(message)
            result = reply if self._then is None else self._then(reply)
        except BaseException as error:  # whatever it is, somebody waits for this future
            self.set_exception(error)
        else:
            self.set_result(result)

    def cancel(self) -> bool:
        """Cancel the call unless it is over; return whether it is cancelled now."""
        cancelled = super().cancel()
        if cancelled:
            self._core.cancel(Code.CANCELLED, "cancelled by the caller")
        return cancelled

    def result(self, timeout: float | None = None) -> T:
        """Return the reply, waiting up to `timeout` seconds for it; raise the error if there is one.

        Raises
        ------
        FailedPrecondition
            There is no result yet and this is a callback of the same connection, which would wait for
            itself.
        """
        self._check_may_wait()
        return super().result(timeout)

    def _check_may_wait(self) -> None:
        if not self.done() and self._core.channel.on_thread:
            raise FailedPrecondition("a callback must not wait for a call of its own connection")

    def _ended(self) -> CoreStatus:
        self._check_may_wait()
        self.wait()
        return self._status

    def code(self) -> Code:
        """Return the status code; waits for the end of the call."""
        return self._ended().code

    def initial_metadata(self) -> Metadata:
        """Return the headers of the answer; waits for the end of the call."""
        self._ended()
        return Metadata(self._headers)

    def trailing_metadata(self) -> Metadata:
        """Return the trailing metadata; waits for the end of the call."""
        return Metadata(self._ended().trailing_metadata)
