"""The life cycle of the calls of a streaming RPC: `StreamState` made to happen around a context."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from yais.errors import Code, DeadlineExceeded, Internal, Unimplemented, YaisError, status_of
from yais.rpc.completion_queue import MetadataItem, ServerCall, seconds_left
from yais.rpc.environment import Environment
from yais.rpc.executor import Executor
from yais.rpc.interceptor import IncomingCall, Interception
from yais.rpc.method import Method
from yais.rpc.reception import Reception
from yais.rpc.stream import Stream, StreamOwner
from yais.rpc.stream_context import Pending, StreamContext
from yais.rpc.stream_state import StreamState

__all__ = ["StreamLifecycle"]

T = TypeVar("T")

_log = logging.getLogger("yais.rpc")


class StreamLifecycle:
    """One slot: serves a call, and then asks for the next.

    Parameters
    ----------
    method
        What to serve.
    executor
        On whose thread and queue.
    environment
        What all calls share.
    reception
        Where calls come from.
    """

    __slots__ = (
        "_call",
        "_draining",
        "_environment",
        "_executor",
        "_lock",
        "_opened",
        "_reception",
        "calls",
        "method",
    )

    def __init__(
        self, method: Method, executor: Executor, environment: Environment, reception: Reception
    ) -> None:
        self.method = method
        self.calls = 0
        self._reception = reception
        self._executor = executor
        self._environment = environment
        self._call: _StreamCall | None = None
        self._opened: _StreamCall | None = None  # the same, once its context has been told
        self._draining = False
        self._lock = threading.Lock()  # of these two: each call learns of the drain once

    @property
    def busy(self) -> bool:
        """Whether a call is being served. From any thread."""
        return self._call is not None

    def drain(self) -> None:
        """Tell the call in flight, or still to arrive, that the server is about to stop. From any thread."""
        with self._lock:
            self._draining = True
            call = self._opened
        if call is not None:
            call.drain()

    def end(self, error: YaisError) -> bool:
        """End the call in flight with an error; whether there was one to end. From any thread."""
        call = self._call
        return call is not None and call.stream.fail(error)

    def serve(self, event: Any, arrived: int, waited: int) -> None:
        """See `Slot`."""
        self.calls += 1
        call = self._call = _StreamCall(
            self.method, ServerCall(event), self._executor, self._environment, self._over, (arrived, waited)
        )
        call.begin()
        with self._lock:
            self._opened = call
            draining = self._draining
        if draining:
            call.drain()

    def _over(self) -> None:
        self._call = self._opened = None
        self._reception.free(self)


class _StreamCall(StreamOwner):
    """One call: a stream, the context that serves it, and what the context is doing."""

    def __init__(
        self,
        method: Method,
        call: ServerCall,
        executor: Executor,
        environment: Environment,
        ended: Callable[[], None],
        arrival: tuple[int, int],
    ) -> None:
        context_class = method.context
        assert issubclass(context_class, StreamContext)
        self._method = method
        self._call = call
        self._accepted, self._waited = arrival
        self._environment = environment
        self._ended = ended
        self._context: StreamContext[Any, Any, Any] | None = None
        self._interception: Interception | None = None
        self._awaited: concurrent.futures.Future[Any] | None = None
        self._beside: concurrent.futures.Future[Any] | None = None
        self._cancelled = self._abandoned = False
        self.trailing_metadata: list[MetadataItem] = []
        self._initial_metadata: list[MetadataItem] = []
        state = StreamState[tuple[bytes, int]](
            max_unsent=context_class.max_unsent,
            single=context_class._rpc_single,
            lockstep=method.lockstep,
        )
        self.stream: Stream[Any] = Stream(method, call, executor, state, self)

    def begin(self) -> None:
        """Serve the call that has arrived."""
        self.stream.begin()
        self._deliver(self._open)

    def _open(self) -> Pending | None:
        environment = self._environment
        if environment.interceptors:
            incoming = IncomingCall(self._method.path, self._call, waited=self._waited)
            incoming.trailing_metadata = self.trailing_metadata
            interception = Interception(incoming)
            interception.begin(environment.interceptors)
            self._interception = interception
        if seconds_left(self._call.deadline) <= 0:
            raise DeadlineExceeded("the deadline passed before the call could be executed")
        return self._run(self._start_context)

    def _start_context(self) -> Pending | None:
        context = self._method.context()
        assert isinstance(context, StreamContext)
        context.resources = self._environment.resources
        if self._interception is not None:
            context._rpc_identity = self._interception.call.identity
        context._rpc_call = self._call
        context.accepted = self._accepted
        context.waited = self._waited
        context._rpc_initial = self._initial_metadata
        context._rpc_trailing = self.trailing_metadata
        context._rpc_reply_stream = self._method.reply_stream
        context._rpc_stream = self.stream
        context._rpc_schedule = self._environment.loop.call_soon
        self._context = context
        context.on_start()
        return context._rpc_opened()

    def drain(self) -> None:
        """Tell the context that the server is about to stop."""
        context = self._context
        if context is not None:
            self._hook(context.on_drain)

    # What the stream tells.

    def headers(self) -> Sequence[MetadataItem]:
        """See `StreamOwner`."""
        return self._initial_metadata if self._context is None else self._context._rpc_headers()

    def received(self, message: bytes | None) -> None:
        """See `StreamOwner`."""
        context = self._context
        if context is None:  # it was refused, and that is on its way
            self.stream.consumed()
        elif message is not None:
            self._deliver(self._decode_and_serve, message)
        elif context._rpc_single:
            self._raised(Unimplemented(f"{self._method.path} requires exactly one request message"))
            self.stream.consumed()
        else:
            self._deliver(self._run, context._rpc_requests_done)

    def room(self) -> None:
        """See `StreamOwner`."""
        if self._context is not None:
            self._run(self._context._rpc_room)

    def gone(self) -> None:
        """See `StreamOwner`."""
        self._cancelled = True
        if self._context is not None:
            self._context._rpc_cancelled = True

    def cancelled(self) -> None:
        """See `StreamOwner`."""
        self.abandon()
        if self._context is not None:
            self._hook(self._context.on_cancel)

    def abandon(self) -> None:
        """See `StreamOwner`."""
        self._abandoned = True
        for future in (self._awaited, self._beside):
            if future is not None:
                try:
                    future.cancel()
                except BaseException:
                    _log.exception("%s: cancelling the future raised", self._method.path)

    def over(self) -> None:
        """See `StreamOwner`."""
        context, self._context = self._context, None  # which refers to the stream, and that to this
        if context is not None:
            self._hook(context._rpc_over)
            self._hook(context.on_finish)
        if self._interception is not None:
            self._interception.end(self._code())
        self._ended()

    def _code(self) -> Code:
        if not self._cancelled:
            return self.stream.code
        return Code.DEADLINE_EXCEEDED if self._late() else Code.CANCELLED

    # How the context's code is run.

    def _decode_and_serve(self, message: bytes) -> Pending | None:
        try:
            request = self._method.deserialize(message)
        except YaisError:
            raise
        except BaseException as error:
            details = f"{self._method.path}: cannot decode the request: {status_of(error)[1]}"
            raise Internal(details) from error
        assert self._context is not None
        return self._run(self._context._rpc_request, request)

    def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        if self._interception is None:
            return function(*arguments)
        return self._interception.run(function, *arguments)

    def _hook(self, hook: Callable[[], None]) -> None:
        try:
            self._run(hook)
        except BaseException:
            _log.exception("%s: %s raised", self._method.path, hook.__name__)

    def _deliver(self, function: Callable[..., Pending | None], *arguments: Any) -> None:
        """Run code of the user's; the next message is read when what it has begun is done."""
        try:
            pending = function(*arguments)
            future = None if pending is None else self._future(pending)
        except BaseException as error:
            self._raised(error)
            self.stream.consumed()
            return
        if pending is None or future is None:
            self.stream.consumed()
        elif pending.beside:
            self.stream.acquire()
            self._beside = future
            future.add_done_callback(functools.partial(self._on_beside_done, pending.then))
            self.stream.consumed()
        else:
            self._awaited = future
            future.add_done_callback(functools.partial(self._on_done, pending.then))
        if self._abandoned:  # before there was anything to cancel
            self.abandon()

    def _future(self, pending: Pending) -> concurrent.futures.Future[Any]:
        if isinstance(pending.work, concurrent.futures.Future):
            return pending.work
        variables = None if self._interception is None else self._interception.variables
        return self._environment.loop.spawn(pending.work, variables)

    def _on_done(self, then: Callable[[Any], object], future: concurrent.futures.Future[Any]) -> None:
        self._awaited = None
        self._settle(then, future)
        self.stream.consumed()

    def _on_beside_done(self, then: Callable[[Any], object], future: concurrent.futures.Future[Any]) -> None:
        self._beside = None
        assert self._context is not None
        self._context._rpc_released()
        self._settle(then, future)
        self.stream.release()

    def _settle(self, then: Callable[[Any], object], future: concurrent.futures.Future[Any]) -> None:
        try:
            self._run(then, future.result(0))
        except BaseException as error:  # what the user's thread raised ends its own RPC alone
            self._raised(error)

    def _raised(self, error: BaseException) -> None:
        cancelled = isinstance(error, concurrent.futures.CancelledError | asyncio.CancelledError)
        if cancelled and self._late():
            error = DeadlineExceeded("Deadline Exceeded")
        if not (cancelled or isinstance(error, YaisError)):
            _log.error("%s raised", self._method.path, exc_info=error)
        self.stream.fail(error)

    def _late(self) -> bool:
        return seconds_left(self._call.deadline) <= 0
