r"""The life cycle of a unary RPC, in one recycled slot per context.

    FREE -> (call arrives) -> READING -> (message) -> EXECUTING -> FINISHING -> FREE again
                                                 \-> WAITING --/

A `Reception` hands calls to free slots, so their number is a hard limit on the RPCs in flight; further calls
wait there, or in core. Everything happens on the executor's thread except one thing: a future may be
completed, and so the last operations started, from any thread. Until then the only other party is
`_watch`, and a lock decides which of the two starts the call's ReceiveClose.

An RPC that is answered within some milliseconds never has a separate ReceiveClose: one event less. Only one
that takes longer, or has waited for a context, is watched for cancellation.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from yais.errors import Code, DeadlineExceeded, YaisError, status_of
from yais.rpc.completion_queue import MetadataItem, ServerCall, seconds_left
from yais.rpc.context import Context
from yais.rpc.environment import Environment
from yais.rpc.executor import Executor
from yais.rpc.interceptor import IncomingCall, Interception
from yais.rpc.method import Method
from yais.rpc.reception import Reception

__all__ = ["UnaryLifecycle"]

_log = logging.getLogger("yais.rpc")


class UnaryLifecycle:
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
        "_accepted",
        "_awaited",
        "_call",
        "_cancel_hook",
        "_close_started",
        "_code",
        "_context",
        "_due",
        "_environment",
        "_executor",
        "_finish_hook",
        "_gone",
        "_interception",
        "_lock",
        "_on_finished",
        "_reception",
        "_resources",
        "_settled",
        "_start_hook",
        "_waited",
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
        self._resources = environment.resources
        self._start_hook = method.context.on_start is not Context.on_start
        self._cancel_hook = method.context.on_cancel is not Context.on_cancel
        self._finish_hook = method.context.on_finish is not Context.on_finish
        self._lock = threading.Lock()
        self._on_finished = self._finished  # bound once, not per call
        self._reset()

    def _reset(self) -> None:
        self._call: ServerCall | None = None
        self._context: Context[Any, Any, Any] | None = None
        self._interception: Interception | None = None
        self._awaited: concurrent.futures.Future[Any] | None = None
        self._accepted = self._waited = 0
        self._code = Code.UNKNOWN  # what the status says, once it is on its way
        self._gone: Code | None = None  # how the caller went, before there was anything to execute
        self._close_started = False
        self._settled = False
        self._due = 1  # operations whose events are still to come before the slot is free

    @property
    def busy(self) -> bool:
        """Whether a call is being served. From any thread."""
        return self._call is not None

    def serve(self, event: Any, arrived: int, waited: int) -> None:
        """See `Slot`."""
        self.calls += 1
        self._accepted = arrived
        self._waited = waited
        self._call = call = ServerCall(event)
        if self._environment.interceptors and not self._admitted(call):
            return
        if waited:
            self._watch_close(call)  # first: the caller may be gone, although its message is here
        call.receive_message(self._on_message)

    def _watch_close(self, call: ServerCall) -> None:
        self._close_started = True
        self._due += 1
        call.receive_close(self._on_close)

    def _admitted(self, call: ServerCall) -> bool:
        self._interception = Interception(IncomingCall(self.method.path, call, waited=self._waited))
        try:
            self._interception.begin(self._environment.interceptors)
        except BaseException as error:
            self._fail(error)
            return False
        return True

    def _on_message(self, message: bytes | None) -> None:
        call, method = self._live_call(), self.method
        if self._gone is not None:
            self._finish(self._gone, "the caller went while the call waited for a context")
            return
        if message is None:
            # The caller sent none, or has gone, or core refused it (too large) and has set the status itself.
            if not self._close_started:
                self._watch_close(call)
            self._finish(Code.UNIMPLEMENTED, f"{method.path} requires exactly one request message")
            return
        if seconds_left(call.deadline) <= 0:
            self._finish(Code.DEADLINE_EXCEEDED, "the deadline passed before the call could be executed")
            return
        try:
            request = method.deserialize(message)
        except BaseException as error:  # user code ends its own RPC alone, whatever it raises
            code, details = status_of(error)
            if not isinstance(error, YaisError):
                code, details = Code.INTERNAL, f"{method.path}: cannot decode the request: {details}"
            self._finish(code, details)
            return
        try:
            if self._interception is None:
                answer = self._execute(call, request)
            else:
                answer = self._interception.run(self._execute, call, request)
        except BaseException as error:
            self._fail(error)
            return
        if type(answer) is method.reply_type:
            self._answer(answer)
        elif isinstance(answer, concurrent.futures.Future):
            self._await(answer)
        elif hasattr(answer, "__await__"):
            self._await_on_loop(answer)
        else:
            self._answer(answer)

    def _execute(self, call: ServerCall, request: Any) -> Any:
        context = self.method.context()
        assert isinstance(context, Context)
        context.resources = self._resources
        context._rpc_call = call
        context.accepted = self._accepted
        context.waited = self._waited
        if self._interception is not None:
            context._rpc_identity = self._interception.call.identity
            context._rpc_trailing = self._interception.call.trailing_metadata
        self._context = context
        if self._start_hook:
            context.on_start()
        return context.execute(request)

    def _await_on_loop(self, awaitable: Awaitable[Any]) -> None:
        try:
            variables = None if self._interception is None else self._interception.variables
            future = self._environment.loop.spawn(awaitable, variables)
        except YaisError as error:  # the server has stopped, and left this call behind
            self._fail(error)
        else:
            self._await(future)

    def _await(self, future: concurrent.futures.Future[Any]) -> None:
        if not future.done():
            self._awaited = future
            self._executor.after_a_while(partial(self._watch, self.calls))
        future.add_done_callback(self._on_done)

    def _watch(self, number: int) -> None:
        with self._lock:
            # The slot may have been recycled since.
            ours = self.calls == number and self._awaited is not None
            if ours and not self._settled and not self._close_started:
                self._watch_close(self._live_call())

    def _on_close(self, cancelled: bool) -> None:
        context = self._context
        if cancelled and context is None:
            late = seconds_left(self._live_call().deadline) <= 0
            self._gone = Code.DEADLINE_EXCEEDED if late else Code.CANCELLED
        elif cancelled and not self._settled:
            assert context is not None and self._awaited is not None
            context._rpc_cancelled = True
            try:
                self._awaited.cancel()
            except BaseException:
                _log.exception("%s: cancelling the future raised", self.method.path)
            if self._cancel_hook:
                self._hook(context.on_cancel)
        self._complete()

    def _on_done(self, future: concurrent.futures.Future[Any]) -> None:
        """Take the outcome of a future, on any thread."""
        try:
            answer = future.result(0)
        except BaseException as error:  # what the user's thread raised ends its own RPC alone
            self._fail(self._as_deadline(error))
        else:
            self._answer(answer)

    def _as_deadline(self, error: BaseException) -> BaseException:
        # A caller whose deadline passed is cancelled by core; the status should say what happened.
        cancelled = isinstance(error, concurrent.futures.CancelledError | asyncio.CancelledError)
        if cancelled and seconds_left(self._live_call().deadline) <= 0:
            return DeadlineExceeded("Deadline Exceeded")
        return error

    def _answer(self, answer: Any) -> None:
        try:
            message = self.method.encode(answer)
        except BaseException as error:
            _log.exception("%s: cannot encode the reply", self.method.path)
            details = f"{self.method.path}: cannot encode the reply: {status_of(error)[1]}"
            self._finish(Code.INTERNAL, details)
            return
        context = self._context
        assert context is not None
        with self._lock:
            self._settled = True
            if (
                self._close_started
                or context._rpc_trailing
                or context._rpc_initial
                or context._rpc_compression
            ):
                self._send_status(Code.OK, "", message)
            else:
                self._code = Code.OK
                self._live_call().reply(message, self._on_finished)

    def _fail(self, error: BaseException) -> None:
        code, details = status_of(error)
        if code is not Code.CANCELLED and not isinstance(error, YaisError):
            _log.error("%s raised", self.method.path, exc_info=error)
        self._finish(code, details)

    def _finish(self, code: Code, details: str) -> None:
        with self._lock:
            self._settled = True
            self._send_status(code, details, None)

    def _send_status(self, code: Code, details: str, message: bytes | None) -> None:
        context = self._context
        trailing: Sequence[MetadataItem] | None = None
        self._code = code
        if context is not None:
            trailing = context._rpc_trailing
        elif self._interception is not None:
            trailing = self._interception.call.trailing_metadata
        self._live_call().finish(
            code,
            details,
            trailing or (),
            done=self._on_finished,
            message=message,
            headers=() if context is None else context._rpc_headers(),
            close=not self._close_started,
        )

    def _live_call(self) -> ServerCall:
        assert self._call is not None
        return self._call

    def _finished(self, _event: Any) -> None:
        self._complete()

    def _complete(self) -> None:
        self._due -= 1
        if self._due:
            return
        context, interception, code = self._context, self._interception, self._gone or self._code
        if context is not None and self._finish_hook:
            self._hook(context.on_finish)
        self._reset()
        if interception is not None:
            interception.end(code)
        self._reception.free(self)

    def _hook(self, hook: Callable[[], None]) -> None:
        try:
            if self._interception is None:
                hook()
            else:
                self._interception.run(hook)
        except BaseException:
            _log.exception("%s: %s raised", self.method.path, hook.__name__)
