"""What the engine process has of one frontend: its requests, and the answers to them."""

from __future__ import annotations

import collections
import contextlib
import logging
import pickle
import socket
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import partial
from typing import Any

from yais.core.future import Future
from yais.errors import Cancelled, Internal, InvalidArgument, YaisError
from yais.inference.request import InferResponse, Respond
from yais.rpc.completion_queue import MetadataItem
from yais.rpc.metadata import Metadata
from yais.serving.caller import Caller
from yais.serving.front_resources import Infer
from yais.serving.frontends.link_bundles import Bundles, item_count
from yais.serving.frontends.link_caller import LinkCaller
from yais.serving.frontends.link_connection import LinkConnection
from yais.serving.frontends.link_frames import Message
from yais.serving.frontends.link_incoming import Incoming, IncomingBundle, RequestReader
from yais.serving.frontends.link_messages import (
    BUNDLE,
    BUNDLES,
    CALL,
    CANCEL,
    CREDIT,
    FORM,
    FREE,
    HELLO,
    INFER,
    PUSH,
    READ,
    SPLIT,
    SYNC,
    RequestForm,
)
from yais.serving.frontends.link_replies import ReplyWriter
from yais.serving.frontends.link_statistics import LinkStatistics
from yais.serving.frontends.link_stream import ResponseCredits
from yais.serving.frontends.link_thread import LinkThread
from yais.serving.frontends.payload_memory import Contents
from yais.serving.http.caller import HttpCaller

__all__ = ["Call", "FrontendSession"]

_log = logging.getLogger("yais.serving")


Call = Callable[[str, bytes, Metadata | None], Future[bytes]]
"""Serves an RPC by its name."""


class FrontendSession:
    """The engine's end of one connection. Requests are handled on the link's thread; the rest is thread-safe.

    Parameters
    ----------
    connection
        To the frontend.
    label
        Which one it is, for the log.
    thread
        Of the links.
    infer, call, bundles
        See `FrontendLinks`.
    ended
        Called when the frontend is gone.
    """

    def __init__(
        self,
        connection: socket.socket,
        label: str,
        *,
        thread: LinkThread,
        infer: Infer,
        call: Call,
        bundles: Bundles | None,
        ended: Callable[[], None],
    ) -> None:
        self._label = label
        self._thread = thread
        self._infer = infer
        self._call = call
        self._bundles = bundles
        self._on_ended = ended
        self._served: dict[int, Future[Any] | None] = {}  # a bundle, which nobody cancels, as -number
        self._credits: dict[int, ResponseCredits] = {}
        self._limits: dict[int, int] = {}  # of bundles, as they were told, by the number of a form
        self._unread: collections.deque[Future[None]] = collections.deque()  # see `sync`
        self._requests = self._bundled = 0
        self._over = False
        self._connection = LinkConnection(connection, thread, label, self._handle, self._end, self._unsent)
        self._reader = RequestReader()
        self._replies = ReplyWriter(self._connection.post)
        thread.add(self._connection)

    @property
    def pending(self) -> int:
        """Requests without an answer; a bundle is one."""
        return len(self._served)

    def push(self, topic: str, value: bytes) -> None:
        """Tell the frontend a pickled value, and then how its requests may be bundled now."""
        self._connection.post((PUSH, topic, value))
        self._connection.flush()
        self._thread.call_soon(self._tell_limits)

    def sync(self) -> Future[None]:
        """Return what is done when the frontend has handled all that was pushed so far, or is gone."""
        read: Future[None] = Future()
        self._unread.append(read)
        self._connection.post((SYNC,))
        self._connection.flush()
        if self._over:
            self._read_all()
        return read

    def statistics(self) -> LinkStatistics:
        """Return the numbers of now."""
        return LinkStatistics(
            requests=self._requests,
            bundles=self._bundled,
            pending=self.pending,
            sends=self._connection.sends,
            sent_bytes=self._connection.sent_bytes,
            shared_bytes=self._replies.shared_bytes,
            overflows=self._replies.overflows,
        )

    # --- Requests, on the link's thread -----------------------------------------------------------------

    def _handle(self, messages: list[Message], descriptors: collections.deque[int]) -> None:
        for kind, *fields in messages:
            if kind == INFER:
                number, *rest = fields
                self._requests += 1
                self._submit(number, self._reader.request(descriptors, *rest))
            elif kind == BUNDLE:
                number, *rest = fields
                self._submit_bundle(number, self._reader.bundle(descriptors, *rest))
            elif kind == SYNC:
                self._connection.post((READ,))
                self._connection.flush()
            elif kind == READ:
                _told(self._unread.popleft())
            elif kind == FREE:
                self._replies.take_back(fields[0])
            elif kind == CANCEL:
                self._cancel(*fields)
            elif kind == CREDIT:
                self._allow(*fields)
            elif kind == FORM:
                self._told_form(*fields)
            elif kind == CALL:
                self._submit_call(descriptors, *fields)
            elif kind == HELLO:
                self._reader.greet(descriptors, fields[0], self._connection.freed.append)
                self._replies.greet(fields[0])
                self._connection.flush()
            else:
                raise InvalidArgument(f"got message {kind}, expected one that a frontend sends")

    def _submit(self, number: int, request: Incoming) -> None:
        form, message, caller = request
        respond: Respond | None = None
        if form.streams:
            credits_ = self._credits[number] = ResponseCredits()
            respond = partial(self._respond, number, credits_, caller)
        self._served[number] = None
        try:
            future = self._infer(message, caller, respond=respond, decoupled=form.decoupled)
        except Exception as error:
            self._fail(number, error)
            caller.finished()
            return
        self._served[number] = future
        future.add_done_callback(partial(self._done, number, caller))

    def _submit_bundle(self, number: int, bundle: IncomingBundle) -> None:
        self._requests += len(bundle.ids)
        self._bundled += 1
        form, whole = bundle.form, bundle.whole
        limit = 0 if self._bundles is None else self._bundles.limit(form.model_name, form.model_version)
        if self._bundles is None or whole.form.inputs[0].spec.shape[0] > limit:
            self._tell_limit(bundle.number)
            self._split(number, bundle)
            return
        try:
            future = self._bundles.submit(whole.message, whole.caller, bundle.moments)
        except Exception:
            self._split(number, bundle)
            return
        self._served[-number] = future
        future.add_done_callback(partial(self._bundle_done, number, bundle))

    def _split(self, number: int, bundle: IncomingBundle) -> None:
        """Submit the requests of a bundle one by one."""
        if not self._over:
            self._connection.post((SPLIT, number))
            for index, request in enumerate(bundle.requests()):
                self._submit(number + index, request)
        self._served.pop(-number, None)

    def _submit_call(
        self,
        descriptors: collections.deque[int],
        number: int,
        method: str,
        contents: Contents,
        headers: tuple[MetadataItem, ...] | None,
    ) -> None:
        request = self._reader.contents(descriptors, contents)
        self._requests += 1
        self._served[number] = None
        try:
            future = self._call(method, request, None if headers is None else Metadata(headers))
        except Exception as error:
            self._fail(number, error)
            return
        self._served[number] = future
        future.add_done_callback(partial(self._call_done, number))

    def _cancel(self, number: int) -> None:
        self._allow(number, 0)
        future = self._served.get(number)
        if future is not None:
            future.cancel()

    def _allow(self, number: int, responses: int) -> None:
        credits_ = self._credits.get(number)
        if credits_ is not None:
            credits_.add(responses)

    def _told_form(self, number: int, pickled: bytes) -> None:
        form = pickle.loads(pickled)
        self._reader.told(number, form)
        if not number:
            self._limits.clear()
        elif isinstance(form, RequestForm) and item_count(form):
            self._limits[number] = 0
            self._tell_limit(number)

    def _tell_limits(self) -> None:
        for number in list(self._limits):
            self._tell_limit(number)

    def _tell_limit(self, number: int) -> None:
        """Tell how requests of a form may be bundled, if that is news."""
        form = self._reader.form(number)
        limit = 0 if self._bundles is None else self._bundles.limit(form.model_name, form.model_version)
        if self._limits.get(number) != limit:
            self._limits[number] = limit
            self._connection.post((BUNDLES, number, limit))
            self._connection.flush()

    # --- Answers, on any thread -------------------------------------------------------------------------

    def _done(self, number: int, caller: LinkCaller | HttpCaller, future: Future[InferResponse]) -> None:
        error = CancelledError() if future.cancelled() else future.exception(0)
        if error is None:
            self._answer(number, future.result(0))
        else:
            self._fail(number, error)
        caller.finished()

    def _bundle_done(self, number: int, bundle: IncomingBundle, future: Future[InferResponse]) -> None:
        if not future.cancelled() and future.exception(0) is None:
            self._answer(number, future.result(0))
            self._served.pop(-number, None)
        else:  # so that a request that cannot be answered fails alone
            self._thread.call_soon(partial(self._split, number, bundle))

    def _call_done(self, number: int, future: Future[bytes]) -> None:
        try:
            self._replies.reply(number, future.result(0))
        except BaseException as error:
            self._fail(number, error)
        else:
            self._finish(number)

    def _answer(self, number: int, response: InferResponse) -> None:
        try:
            self._replies.response(number, response, final=True)
        except Exception as error:
            self._fail(number, error)
        else:
            self._finish(number)

    def _respond(
        self, number: int, credits_: ResponseCredits, caller: Caller, response: InferResponse
    ) -> bool:
        if not credits_.take(caller.deadline):
            return False
        self._replies.response(number, response, final=False)
        self._connection.flush()
        return credits_.wanted

    def _fail(self, number: int, error: BaseException) -> None:
        if isinstance(error, CancelledError):
            error = Cancelled("the request was cancelled")
        if not isinstance(error, YaisError) and not self._over:
            _log.error("a request of %s failed", self._label, exc_info=error)
        self._replies.error(number, error)
        self._finish(number)

    def _unsent(self, message: Message, error: Exception) -> None:
        """Fail the request whose answer could not be encoded."""
        _log.error("an answer to %s cannot be sent: %s", self._label, error)
        self._replies.error(message[1], Internal(f"the answer cannot be sent to the frontend: {error}"))

    def _finish(self, number: int) -> None:
        self._served.pop(number, None)
        self._credits.pop(number, None)
        self._connection.flush()

    def _end(self, reason: str) -> None:
        self._over = True
        self._read_all()
        self._replies.close()
        self._reader.close()
        for credits_ in list(self._credits.values()):
            credits_.stop()
        for future in list(self._served.values()):
            if future is not None:
                future.cancel()
        _log.debug("the link to %s is over: %s", self._label, reason)
        self._on_ended()

    def _read_all(self) -> None:
        """Wait for the frontend no more."""
        with contextlib.suppress(IndexError):  # two threads may be here
            while True:
                _told(self._unread.popleft())


def _told(read: Future[None]) -> None:
    if read.set_running_or_notify_cancel():
        read.set_result(None)
