"""Ordinary grpcio servicers, mounted unchanged (DESIGN.md, D2).

`ServicerHost` is what generated `add_XServicer_to_server` functions take for a `grpc.Server`. Calls of
methods that no `Service` registered come here: a mounted handler serves them on a thread pool, in
grpcio's blocking style, or they end with UNIMPLEMENTED.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grpc

from yais.core.thread_pool import ThreadPool, ThreadPoolStatistics
from yais.errors import Code, Internal, ResourceExhausted, YaisError, status_of
from yais.rpc.blocking_call import BlockingCall
from yais.rpc.completion_queue import ServerCall
from yais.rpc.environment import Environment
from yais.rpc.executor import Executor
from yais.rpc.interceptor import IncomingCall, Interception, Interceptor
from yais.rpc.mounted_context import Abort, MountedContext

__all__ = ["ServicerHost"]

_log = logging.getLogger("yais.rpc")

_PARTING = "the server is shutting down"


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
        self._live: set[BlockingCall] = set()
        self._parting = False

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

    def end_parked(self) -> None:
        """End, now and from now on, the streams that wait for something to tell and hold no thread.

        Nothing is being computed for them, and they would not end by themselves: watches of the health
        service, for example. What they were told before is sent.
        """
        self._parting = True
        for call in list(self._live):
            if call.parked:
                call.end(Code.UNAVAILABLE, _PARTING)

    def close(self, timeout: float) -> None:
        """End the threads; what still runs after `timeout` seconds is left to itself."""
        if self._pool is not None:
            self._pool.close(timeout)

    def statistics(self) -> ThreadPoolStatistics | None:
        """Return the numbers of the threads; None before the start."""
        return None if self._pool is None else self._pool.statistics()

    def arm(self, executor: Executor, environment: Environment) -> None:
        """Ask core for the next call of an unregistered method; serve it and ask again."""

        def arrived(event: Any) -> None:
            if not event.success:
                executor.vacate()
                return
            if not environment.core.request(None, executor.queue, arrived):
                executor.vacate()
            self._serve(BlockingCall(ServerCall(event), executor, self._live), environment.interceptors)

        executor.occupy()
        if not environment.core.request(None, executor.queue, arrived):
            executor.vacate()

    def _serve(self, rpc: BlockingCall, interceptors: Sequence[Interceptor]) -> None:
        try:
            handler = self._find(rpc)
            if interceptors:
                interception = Interception(IncomingCall(rpc.method, rpc.call, known=handler is not None))
                rpc.interception = interception  # first: a refusal sends its trailing metadata
                interception.begin(interceptors)
        except BaseException as error:
            if not isinstance(error, YaisError):
                _log.exception("before the servicer of %s", rpc.method)
            rpc.end(*status_of(error))
            return
        if handler is None:
            rpc.end(Code.UNIMPLEMENTED, f"Method not found: {rpc.method}")
            return
        assert self._pool is not None
        try:
            self._pool.submit(self._serve_to_end, rpc, handler)
        except (ResourceExhausted, RuntimeError) as error:  # full, or shut down
            rpc.end(Code.RESOURCE_EXHAUSTED, str(error))

    def _serve_to_end(self, rpc: BlockingCall, handler: Any) -> None:
        if rpc.interception is None:
            _run(rpc, handler)
        else:
            rpc.interception.run(_run, rpc, handler)
        if self._parting and rpc.parked:
            rpc.end(Code.UNAVAILABLE, _PARTING)

    def _find(self, rpc: BlockingCall) -> Any:
        for generic in self._handlers:
            handler = generic.service(rpc)
            if handler is not None:
                return handler
        return None


def _run(rpc: BlockingCall, handler: Any) -> None:
    """Serve one call to its end, on a thread of the pool."""
    context = MountedContext(rpc)
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
    except Abort:
        context.finish(None)
    except BaseException as error:
        if rpc.active:
            context.fail(error)


def _run_non_blocking(
    rpc: BlockingCall, context: MountedContext, behaviour: Any, request: Any, encode: Callable[[Any], bytes]
) -> None:
    # The convention of grpcio for streams that hold no thread, which its health servicer follows: the
    # callback takes one reply after the other, and None at the end.
    def send(reply: Any) -> None:
        if reply is None:
            context.finish(None)
        else:
            rpc.send_later(encode(reply))

    behaviour(request, context, send_response_callback=send)
    rpc.parked = True


def _encoder(rpc: BlockingCall, handler: Any) -> Callable[[Any], bytes]:
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

    def __init__(self, rpc: BlockingCall, decode: Callable[[bytes], Any]) -> None:
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
