"""Ordinary grpcio servicers, mounted unchanged (DESIGN.md, D2).

`ServicerHost` is what generated `add_XServicer_to_server` functions take for a `grpc.Server`. Calls of
methods that no `Service` registered come here: a mounted handler serves them on a thread pool, in
grpcio's blocking style, or they end with UNIMPLEMENTED.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import grpc

from yais.core.thread_pool import ThreadPool
from yais.errors import Code, Internal, ResourceExhausted, YaisError
from yais.rpc.completion_queue import CoreServer, MetadataItem, ServerCall, seconds_left
from yais.rpc.executor import Executor
from yais.rpc.status import status_of_any

__all__ = ["ServicerHost"]

_log = logging.getLogger("yais.rpc")


class ServicerHost:
    """The mounted servicers of one server, and the thread pool they run on.

    Parameters
    ----------
    threads
        Calls of mounted servicers that run at once. A blocking stream holds a thread while it lasts.
    max_queue
        Calls that may wait for a thread; one more ends with RESOURCE_EXHAUSTED.
    """

    def __init__(self, *, threads: int = 8, max_queue: int = 1000) -> None:
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._threads = threads
        self._max_queue = max_queue
        self._pool: ThreadPool | None = None
        self._live: set[_Rpc] = set()

    @property
    def in_flight(self) -> int:
        """Calls being served, those that wait for a thread included."""
        return len(self._live)

    def service_names(self) -> list[str]:
        """Full names of the mounted services, as far as their handlers tell."""
        named = [handler for handler in self._handlers if isinstance(handler, grpc.ServiceRpcHandler)]
        return list(dict.fromkeys(str(handler.service_name()) for handler in named))

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Mount handlers, as generated code does."""
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Ignore: generated code gives the same handlers to `add_generic_rpc_handlers`."""

    def open(self) -> None:
        """Start the threads."""
        self._pool = ThreadPool(self._threads, name="servicer", max_queue=self._max_queue)

    def close(self, timeout: float) -> None:
        """End the threads; what still runs after `timeout` seconds is left to itself."""
        if self._pool is not None:
            self._pool.close(timeout)

    def arm(self, executor: Executor, server: CoreServer) -> None:
        """Ask core for the next call of an unregistered method; serve it and ask again."""

        def arrived(event: Any) -> None:
            if not event.success:
                executor.vacate()
                return
            if not server.request(None, executor.queue, arrived):
                executor.vacate()
            self._serve(_Rpc(ServerCall(event), executor, self._live))

        executor.occupy()
        if not server.request(None, executor.queue, arrived):
            executor.vacate()

    def _serve(self, rpc: _Rpc) -> None:
        try:
            handler = self._find(rpc)
        except BaseException as error:
            _log.exception("looking for the handler of %s", rpc.method)
            rpc.end(*status_of_any(error))
            return
        if handler is None:
            rpc.end(Code.UNIMPLEMENTED, f"Method not found: {rpc.method}")
            return
        assert self._pool is not None
        try:
            self._pool.submit(_run, rpc, handler)
        except (ResourceExhausted, RuntimeError) as error:  # full, or shut down
            rpc.end(Code.RESOURCE_EXHAUSTED, str(error))

    def _find(self, rpc: _Rpc) -> Any:
        for generic in self._handlers:
            handler = generic.service(rpc)
            if handler is not None:
                return handler
        return None


def _run(rpc: _Rpc, handler: Any) -> None:
    """Serve one call to its end, on a thread of the pool."""
    context = _ServicerContext(rpc)
    encode = _encoder(rpc, handler)
    try:
        if not rpc.active:  # cancelled while it waited for the thread
            return
        request: Any = _Requests(rpc, handler.request_deserializer or bytes)
        if not handler.request_streaming:
            request = next(request, None)
            if request is None:
                rpc.end(Code.UNIMPLEMENTED, f"{rpc.method} requires exactly one request message")
                return
        behaviour = _behaviour(handler)
        if getattr(behaviour, "experimental_non_blocking", False):
            _run_non_blocking(rpc, context, behaviour, request, encode)
            return
        answer = behaviour(request, context)
        if not handler.response_streaming:
            context.finish(encode(answer) if context.ok() else None)
            return
        for reply in answer:
            if not rpc.send(encode(reply)):
                break
        context.finish(None)
    except _Abort:
        context.finish(None)
    except BaseException as error:
        if rpc.active:
            context.fail(error)


def _run_non_blocking(
    rpc: _Rpc, context: _ServicerContext, behaviour: Any, request: Any, encode: Callable[[Any], bytes]
) -> None:
    # The convention of grpcio for streams that hold no thread, which its health servicer follows: the
    # callback takes one reply after the other, and None at the end.
    def send(reply: Any) -> None:
        if reply is None:
            context.finish(None)
        else:
            rpc.send_later(encode(reply))

    behaviour(request, context, send_response_callback=send)


def _encoder(rpc: _Rpc, handler: Any) -> Callable[[Any], bytes]:
    serialize = handler.response_serializer or bytes

    def encode(reply: Any) -> bytes:
        try:
            message = serialize(reply)
            if type(message) is bytes:
                return message
            raise TypeError(f"the serializer returned {type(message).__name__}, expected bytes")
        except BaseException as error:
            _log.exception("%s: cannot encode a reply", rpc.method)
            raise Internal("Failed to serialize response!") from error

    return encode


def _behaviour(handler: Any) -> Any:
    request = "stream" if handler.request_streaming else "unary"
    reply = "stream" if handler.response_streaming else "unary"
    return getattr(handler, f"{request}_{reply}")


class _Requests(Iterator[Any]):
    """The requests of a call, as a servicer method takes them, on any thread."""

    def __init__(self, rpc: _Rpc, decode: Callable[[bytes], Any]) -> None:
        self._rpc = rpc
        self._decode = decode

    def __next__(self) -> Any:
        message = self._rpc.receive()
        if message is None:
            raise StopIteration
        try:
            return self._decode(message)
        except BaseException as error:
            raise Internal("Exception deserializing request!") from error


class _Cancelled(grpc.RpcError):
    """Ends a servicer method that reads the requests of a cancelled call, as grpcio does."""


class _Abort(Exception):
    """Ends a servicer method after `context.abort`, as grpcio does."""


class _Rpc:
    """One call in blocking style: an operation is started and its completion waited for.

    Also a `grpc.HandlerCallDetails`: method and metadata.
    """

    def __init__(self, call: ServerCall, executor: Executor, live: set[_Rpc]) -> None:
        self.call = call
        self.method = call.method
        self.invocation_metadata = call.metadata
        self.active = True
        self.headers_sent = False
        self._executor = executor
        self._live = live
        self._changed = threading.Condition()
        self._callbacks: list[Callable[[], None]] = []
        self._ended = False
        self._sending = False
        self._unsent: list[bytes] = []
        self._end_wanted: tuple[Code, str, Sequence[MetadataItem], bytes | None] | None = None
        self._due = 2  # the close and the status
        live.add(self)
        executor.occupy()
        call.receive_close(self._on_close)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        with self._changed:
            if not self.active:
                return False
            self._callbacks.append(callback)
            return True

    def receive(self) -> bytes | None:
        """Wait for the next message; None when there is none left. The call's deadline bounds the wait.

        Raises
        ------
        grpc.RpcError
            The call is over: a request stream that was cut short should not look like a whole one. As
            with grpcio it may, if core tells of the cancellation later than of the end of the stream.
        """
        box: list[bytes | None] = []

        def done(message: bytes | None) -> None:
            if message is None:
                # A cancelled call, too, has no more messages; that it is cancelled is mostly the next event.
                self._executor.when_drained(lambda: deliver(None))
            else:
                deliver(message)

        def deliver(message: bytes | None) -> None:
            with self._changed:
                box.append(message)
                self._changed.notify_all()

        with self._changed:
            if self.active:
                self.call.receive_message(done)
                self._changed.wait_for(lambda: bool(box) or not self.active)
            if not self.active:
                raise _Cancelled
        return box[0]

    def send(self, message: bytes) -> bool:
        """Send a message once those before it have gone; False when the call is over."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._sending or self._unsent) or not self.active)
            return self._send(message)

    def send_later(self, message: bytes) -> None:
        """Send a message after those before it, without waiting."""
        with self._changed:
            if self._sending:
                self._unsent.append(message)
            else:
                self._send(message)

    def _send(self, message: bytes) -> bool:
        if not self.active or self._ended:
            return False
        self.call.send_message(message, headers=not self.headers_sent, done=self._on_sent)
        self._sending = self.headers_sent = True
        return True

    def send_initial_metadata(self, metadata: Sequence[MetadataItem]) -> None:
        with self._changed:
            if self.headers_sent:
                raise ValueError("Initial metadata no longer allowed!")
            if self.active:
                self.call.send_initial_metadata(metadata, self._on_sent)
                self._sending = self.headers_sent = True

    def end(
        self, code: Code, details: str, trailing: Sequence[MetadataItem] = (), message: bytes | None = None
    ) -> None:
        """End the call, once; a second end is ignored."""
        with self._changed:
            if self._end_wanted is not None:
                return
            self._end_wanted = (code, details, trailing, message)
            if not self._sending:
                self._end()

    def _end(self) -> None:
        assert self._end_wanted is not None
        self._ended = True
        code, details, trailing, message = self._end_wanted
        headers = not self.headers_sent
        self.call.finish(
            code, details, trailing, done=self._on_ended, message=message, headers=headers, close=False
        )

    def _on_sent(self, success: bool) -> None:
        with self._changed:
            self._sending = False
            if not (success and self.active):
                self._unsent.clear()
            if self._unsent:
                self._send(self._unsent.pop(0))
            elif self._end_wanted is not None:
                self._end()
            self._changed.notify_all()

    def _on_close(self, _cancelled: bool) -> None:
        with self._changed:
            self.active = False
            callbacks, self._callbacks = self._callbacks, []
            self._changed.notify_all()
        for callback in callbacks:
            try:
                callback()
            except BaseException:
                _log.exception("a callback of %s raised", self.method)
        self.end(Code.CANCELLED, "Cancelled")  # unless it was ended: then this is the end's echo
        self._release()

    def _on_ended(self, _event: Any) -> None:
        self._release()

    def _release(self) -> None:
        self._due -= 1  # both on the executor's thread
        if not self._due:
            self._live.discard(self)
            self._executor.vacate()


class _ServicerContext(grpc.ServicerContext):
    """What a servicer method gets as its context: grpcio's interface over an `_Rpc`."""

    def __init__(self, rpc: _Rpc) -> None:
        self._rpc = rpc
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: Sequence[MetadataItem] = ()

    def ok(self) -> bool:
        return self._code is None or self._code is grpc.StatusCode.OK

    def finish(self, message: bytes | None) -> None:
        code = Code.OK if self._code is None else Code(self._code.value[0])
        self._rpc.end(code, self._details, self._trailing, message)

    def fail(self, error: BaseException) -> None:
        code, details = status_of_any(error)
        if not isinstance(error, YaisError):
            _log.error("%s raised", self._rpc.method, exc_info=error)
            details = f"Exception calling application: {details}"
        if self._code is not None and not self.ok():  # what the method said before it raised
            code, details = Code(self._code.value[0]), self._details or details
        self._rpc.end(code, details, self._trailing)

    def is_active(self) -> bool:
        return self._rpc.active

    def time_remaining(self) -> float:
        return max(0.0, seconds_left(self._rpc.call.deadline))

    def cancel(self) -> bool:
        self._rpc.call.cancel()
        return True

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return self._rpc.add_callback(callback)

    def invocation_metadata(self) -> Any:
        return self._rpc.invocation_metadata

    def peer(self) -> str:
        return self._rpc.call.peer

    def peer_identities(self) -> Any:
        return None

    def peer_identity_key(self) -> str | None:
        return None

    def auth_context(self) -> Mapping[str, Any]:
        return {}

    def set_compression(self, compression: Any) -> None:
        """Ignore: what is sent is not compressed."""

    def disable_next_message_compression(self) -> None:
        """Ignore: what is sent is not compressed."""

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        self._rpc.send_initial_metadata(initial_metadata)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._trailing = trailing_metadata

    def trailing_metadata(self) -> Any:
        return self._trailing

    def abort(self, code: Any, details: str) -> NoReturn:
        self._code = grpc.StatusCode.UNKNOWN if code is grpc.StatusCode.OK else code
        self._details = details
        raise _Abort

    def abort_with_status(self, status: Any) -> NoReturn:
        self._trailing = status.trailing_metadata
        self.abort(status.code, status.details)

    def set_code(self, code: Any) -> None:
        self._code = code

    def code(self) -> Any:
        return self._code

    def set_details(self, details: str) -> None:
        self._details = details

    def details(self) -> Any:
        return self._details.encode()
