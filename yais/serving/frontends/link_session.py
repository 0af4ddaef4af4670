"""What a frontend has of one engine process, from when it is connected until it is gone."""

from __future__ import annotations

import collections
import logging
import os
import pickle
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any

from yais.core.clock import NANOSECONDS, monotonic
from yais.core.dispatcher import Dispatcher
from yais.errors import InvalidArgument, Unavailable
from yais.inference.request import InferResponse, ResponseForm
from yais.rpc.completion_queue import MetadataItem
from yais.serving.frontends.form_numbers import KnownForms
from yais.serving.frontends.form_responses import ResponseForms
from yais.serving.frontends.link_connection import LinkConnection
from yais.serving.frontends.link_contents import get_all
from yais.serving.frontends.link_frames import Message
from yais.serving.frontends.link_future import LinkFuture
from yais.serving.frontends.link_messages import (
    ANSWER,
    BUNDLES,
    CANCEL,
    CREDIT,
    ERROR,
    FORM,
    FREE,
    HELLO,
    PUSH,
    READ,
    REPLY,
    RESPONSE,
    SPLIT,
    SYNC,
    error_from,
)
from yais.serving.frontends.link_outgoing import OutgoingRequest
from yais.serving.frontends.link_patience import WORTH_IT, Patience
from yais.serving.frontends.link_pending import PendingRequests
from yais.serving.frontends.link_requests import RequestWriter
from yais.serving.frontends.link_statistics import LinkStatistics
from yais.serving.frontends.link_thread import LinkThread
from yais.serving.frontends.payload_memory import Contents, PayloadReader

__all__ = ["EngineSession"]

_log = logging.getLogger("yais.serving")


class EngineSession:
    """A frontend's end of one connection. Thread-safe.

    Parameters
    ----------
    connection
        To the engine process.
    thread
        Of the link.
    threads
        Where responses of decoupled models are handed out.
    memory
        Bytes of shared memory to send contents in.
    told
        See `EngineLink`.
    ended
        Called when the engine process is gone, and everything that was pending has failed.
    """

    def __init__(
        self,
        connection: socket.socket,
        *,
        thread: LinkThread,
        threads: Executor,
        memory: int,
        told: Callable[[str, Any], None],
        ended: Callable[[], None],
    ) -> None:
        self._told = told
        self._on_ended = ended
        self._lock = threading.Lock()
        self._connection = LinkConnection(
            connection, thread, "the engine process", self._handle, self._end, self._unsent
        )
        self._writer = RequestWriter(memory, self._connection.post)
        self._reader: PayloadReader | None = None
        self._answers = KnownForms()
        self._forms = ResponseForms()
        self._waiting: list[OutgoingRequest] = []
        self._flushing: set[Dispatcher] = set()  # those that will call `_flush`
        self._patience = Patience()
        self._unread = 0  # since when the engine process has not read what was sent, ns; 0 if it has
        self._pending = PendingRequests(threads, self._forms, self._cancel, self._taken)
        self._reason = ""  # why it is over
        self._connection.post((HELLO, memory), [os.dup(self._writer.payload.descriptor)])
        thread.add(self._connection)
        self._connection.flush()

    @property
    def pending(self) -> int:
        """Requests without an answer."""
        return len(self._pending) + len(self._waiting)

    def submit(self, request: OutgoingRequest, dispatcher: Dispatcher | None) -> None:
        """Send a request: when the dispatcher, whose thread this is, has run empty, or at once without.

        While the engine process has not read what was sent before, requests gather: so much the cheaper each.
        """
        request.future.on_cancel = self._withdraw
        with self._lock:
            self._waiting.append(request)
        if dispatcher is None:
            self._send()
        elif dispatcher not in self._flushing:
            self._flushing.add(dispatcher)
            dispatcher.when_drained(partial(self._flush, dispatcher))

    def call(
        self, future: LinkFuture[bytes], method: str, request: bytes, headers: tuple[MetadataItem, ...] | None
    ) -> None:
        """Send a call."""
        try:
            with self._lock:
                self._expect_alive()
                number = self._pending.next
                self._pending.add_call(future)
                self._writer.write_call(number, method, request, headers)
                self._recall([future])
        except Exception as error:
            future.fail(error)
        else:
            self._connection.flush()

    def silence(self) -> float:
        """Return for how many seconds the engine process has not read what was sent; ask whether it does."""
        with self._lock:
            since = self._unread
            if not since:
                self._ask()
        self._connection.send()
        return (monotonic() - since) / NANOSECONDS if since else 0.0

    def statistics(self) -> LinkStatistics:
        """Return the numbers of now."""
        writer = self._writer
        return LinkStatistics(
            requests=writer.requests,
            bundles=writer.bundles,
            pending=self.pending,
            sends=self._connection.sends,
            sent_bytes=self._connection.sent_bytes,
            shared_bytes=writer.payload.shared_bytes,
            overflows=writer.payload.overflows,
        )

    # --- Sending ----------------------------------------------------------------------------------------

    def _flush(self, dispatcher: Dispatcher) -> None:
        self._flushing.discard(dispatcher)
        self._send()
        # The answers of a short model are there before another thread would be awake for them. Twice:
        # requests that have gathered meanwhile leave when the first are there. Not for ever: the queue waits.
        for _ in range(2):
            before = self._pending.ended
            if not self._unread or not self._patience.willing() or not self._connection.take(WORTH_IT):
                return
            self._patience.learn(came=self._pending.ended > before)

    def _send(self) -> None:
        failed: list[tuple[OutgoingRequest, Exception]] = []
        with self._lock:
            if self._unread or not self._waiting:
                return
            requests, self._waiting = self._waiting, []
            for group in self._groups([each for each in requests if not each.future.done()]):
                number = self._pending.next
                try:
                    self._expect_alive()
                    self._pending.add(group)  # first: other threads may send what is written at once
                    self._writer.write(number, group)
                    self._recall([each.future for each in group])
                except Exception as raised:
                    self._pending.remove(number)
                    failed += [(each, raised) for each in group]
            self._ask()
        self._connection.send()
        for request, error in failed:
            request.future.fail(error.with_traceback(None))  # which leads here, to all of these requests

    def _groups(self, requests: Sequence[OutgoingRequest]) -> Sequence[Sequence[OutgoingRequest]]:
        try:
            return self._writer.groups(requests)
        except Exception:  # of one of them, which is to fail alone
            return [[each] for each in requests]

    def _unsent(self, message: Message, error: Exception) -> None:
        """Fail the requests of a message that could not be encoded."""
        failure = InvalidArgument(f"the request cannot be sent to the engine process: {error}")
        for future in self._pending.remove(message[1]):
            future.fail(failure)

    def _recall(self, futures: Sequence[LinkFuture[Any]]) -> None:
        """Cancel what was cancelled while it was written: the engine process did not know of it then."""
        for each in futures:
            if each.cancelled():
                self._connection.post((CANCEL, each.number))

    def _ask(self) -> None:
        """Ask whether the engine process reads."""
        if not self._reason:
            self._connection.post((SYNC,))
            self._unread = monotonic()

    def _withdraw(self, future: LinkFuture[Any]) -> None:
        """Forget a request that was cancelled before it was sent."""
        with self._lock:
            self._waiting = [each for each in self._waiting if each.future is not future]

    def _cancel(self, future: LinkFuture[Any]) -> None:
        self._connection.post((CANCEL, future.number))
        self._connection.flush()

    def _taken(self, number: int, count: int) -> None:
        self._connection.post((CREDIT, number, count))
        self._connection.flush()

    def _expect_alive(self) -> None:
        if self._reason:
            raise Unavailable(f"the engine process does not answer: {self._reason}")

    # --- Receiving, on one thread at a time: the link's, or one that waits for answers -------------------

    def _handle(self, messages: list[Message], descriptors: collections.deque[int]) -> None:
        read = False
        for kind, *fields in messages:
            if kind == ANSWER:
                self._answered(descriptors, *fields)
            elif kind == READ:
                read = True
            elif kind == FREE:
                with self._lock:
                    for place in fields[0]:
                        self._writer.payload.take_back(place)
            elif kind == FORM:
                number, form = fields
                self._answers.told(number, self._forms.the(pickle.loads(form)) if number else None)
            elif kind == ERROR:
                number, *reason = fields
                self._pending.failed(number, error_from(*reason))
            elif kind == RESPONSE:
                self._responded(descriptors, *fields)
            elif kind == REPLY:
                self._replied(descriptors, *fields)
            else:
                self._told_more(kind, fields, descriptors)
        if read:  # last: who gets an answer asks again, and those requests are to leave together
            self._unread = 0
            self._send()

    def _told_more(self, kind: int, fields: list[Any], descriptors: collections.deque[int]) -> None:
        """Handle what comes less often."""
        if kind == BUNDLES:
            self._writer.limits[fields[0]] = fields[1]
        elif kind == SPLIT:
            self._pending.split(fields[0])
        elif kind == PUSH:
            self._pushed(*fields)
        elif kind == SYNC:
            self._connection.post((READ,))
            self._connection.flush()
        elif kind == HELLO:
            self._reader = PayloadReader.take(descriptors, fields[0], self._connection.freed.append)
        else:
            raise InvalidArgument(f"got message {kind}, expected one that an engine process sends")

    def _responded(
        self, descriptors: collections.deque[int], number: int, form: int, contents: Sequence[Contents]
    ) -> None:
        response = self._response(form, self._pending.id_of(number), contents, descriptors)
        self._pending.responded(number, response)

    def _answered(
        self,
        descriptors: collections.deque[int],
        number: int,
        form: int,
        id_: str,
        contents: Sequence[Contents],
    ) -> None:
        self._pending.answered(number, self._response(form, id_, contents, descriptors))

    def _replied(self, descriptors: collections.deque[int], number: int, contents: Contents) -> None:
        self._pending.replied(number, bytes(self._expect_hello().get(contents, descriptors)))

    def _response(
        self, number: int, id_: str, contents: Sequence[Contents], descriptors: collections.deque[int]
    ) -> InferResponse:
        form: ResponseForm = self._answers[number]
        reader = self._expect_hello()
        of_bytes = [i for i, spec in enumerate(form.outputs) if not spec.datatype.size]
        data = get_all(reader, contents, descriptors, of_bytes)
        return InferResponse(form, id_, [memoryview(each) if type(each) is bytes else each for each in data])

    def _pushed(self, topic: str, value: bytes) -> None:
        try:
            self._told(topic, pickle.loads(value))
        except Exception:
            _log.exception("what the engine process said of '%s' could not be used", topic)

    def _expect_hello(self) -> PayloadReader:
        if self._reader is None:
            raise InvalidArgument("got a message, expected that the engine process says of its memory first")
        return self._reader

    def _end(self, reason: str) -> None:
        with self._lock:
            self._reason = reason
            self._unread = 0
            waiting, self._waiting = self._waiting, []
            pending = self._pending.clear()
            self._writer.payload.close()
        self._reader = None
        error = Unavailable(f"the request was not answered: {reason}")
        for future, taker in [*pending, *((each.future, None) for each in waiting)]:
            if taker is None:
                future.fail(error)
            else:
                taker.end(lambda raised, future=future: future.fail(raised or error))  # type: ignore[misc]
        self._on_ended()
