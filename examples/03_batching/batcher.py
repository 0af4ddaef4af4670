"""The shell around the window: callers come in one by one, batches leave as streams."""

from __future__ import annotations

import functools
import math
import threading
from typing import NamedTuple

from window import Window

import yais
from yais.core.clock import NANOSECONDS, Deadline, monotonic
from yais.core.timer import Timer
from yais.rpc.client import ClientStreaming, Status


class Item(NamedTuple):
    request: bytes
    deadline: Deadline
    answer: yais.Future[bytes]


class Batcher:
    """Forwards requests in batches, each as one stream. Thread-safe.

    Parameters
    ----------
    backend
        Where to. A batch never waits for room, so `max_unsent` must be at least `max_items`.
    max_items
        Requests in a batch, at most.
    max_delay
        Seconds that a request waits for others, at most.
    """

    def __init__(self, backend: ClientStreaming[bytes, bytes], max_items: int, max_delay: float) -> None:
        self._backend = backend
        self._window: Window[Item] = Window(max_items, round(max_delay * NANOSECONDS))
        self._lock = threading.Lock()
        self._timer = Timer("batching")

    def submit(self, request: bytes, deadline: Deadline) -> yais.Future[bytes]:
        """Return the future of the answer. Cancelled before its batch leaves, the request is dropped."""
        item = Item(request, deadline, yais.Future())
        with self._lock:
            batch = self._window.push(item, monotonic())
            if len(self._window) == 1 and self._window.due is not None:
                self._timer.call_at(self._window.due, self._on_time)
        self._forward(batch)
        return item.answer

    def close(self) -> None:
        self._timer.close(timeout=1.0)

    def _on_time(self) -> None:
        with self._lock:
            batch = self._window.take(monotonic())  # nothing, if that window was full before
        self._forward(batch)

    def _forward(self, batch: list[Item]) -> None:
        wanted = [item for item in batch if item.answer.set_running_or_notify_cancel()]
        if not wanted:
            return
        try:
            self._send(wanted)
        except yais.YaisError as error:
            fail(wanted, error)

    def _send(self, batch: list[Item]) -> None:
        replies: list[bytes] = []
        # The most patient caller's deadline; gRPC ends the calls of the others when it is time.
        deadline = max((item.deadline for item in batch), key=lambda each: each.at or math.inf)
        stream = self._backend.open(timeout=deadline.remaining(), on_reply=replies.append, corked=True)
        for item in batch:
            stream.write(item.request)
        stream.done().add_done_callback(functools.partial(answer, batch, replies))


def answer(batch: list[Item], replies: list[bytes], ended: yais.Future[Status]) -> None:
    """Give every caller of a batch its reply, or the error that ended the stream."""
    status = ended.result()
    if not status.ok:
        fail(batch, status.error())
    elif len(replies) != len(batch):
        fail(batch, yais.Internal(f"the backend sent {len(replies)} replies, expected {len(batch)}"))
    else:
        for item, reply in zip(batch, replies, strict=True):
            item.answer.set_result(reply)


def fail(batch: list[Item], error: yais.YaisError) -> None:
    for item in batch:
        item.answer.set_exception(error)
