"""One end of the connection between two processes: messages out, in batches, and in."""

from __future__ import annotations

import array
import collections
import contextlib
import logging
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from yais.serving.frontends.link_frames import FrameReader, Message, encode_frame
from yais.serving.frontends.link_messages import FREE

if TYPE_CHECKING:
    from yais.serving.frontends.link_thread import LinkThread

__all__ = ["LinkConnection"]

_log = logging.getLogger("yais.serving")

_BATCH = 512  # messages sent together
_DESCRIPTORS = 64  # that go with them, beside those of the last one; the kernel takes up to 253
_TRUNCATED = int(socket.MSG_CTRUNC)  # a number: `&` of an enumeration takes microseconds
_ANCILLARY = socket.CMSG_SPACE(253 * array.array("i").itemsize)


class LinkConnection:
    """A connection of a link's thread. `post`, `flush`, `take` are thread-safe, the rest is for that thread.

    Parameters
    ----------
    connection
        A stream socket, which is closed here.
    thread
        Serves it once it is started.
    label
        What is at the other end, for the log.
    handle
        Called with messages as they arrive, and with their descriptors, of which it takes those it needs; by
        one thread at a time, the link's or one in `take`. What it raises ends the connection.
    ended
        Called once when the connection has, with why.
    unsent
        Called with a message that could not be encoded, and why, on the thread that sends: must not block.

    Attributes
    ----------
    freed
        Offsets of contents of the other side's that are not needed any more: told with the next messages.
    sends, sent_bytes
        System calls that sent something, and what.
    """

    def __init__(
        self,
        connection: socket.socket,
        thread: LinkThread,
        label: str,
        handle: Callable[[list[Message], collections.deque[int]], None],
        ended: Callable[[str], None],
        unsent: Callable[[Message, Exception], None],
    ) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._thread = thread
        self._label = label
        self._handle = handle
        self._ended = ended
        self._unsent = unsent
        self._reader = FrameReader()
        self._received: collections.deque[int] = collections.deque()  # descriptors
        self._outbox: collections.deque[tuple[Message, list[int]]] = collections.deque()
        self._sending = threading.Lock()
        self._reading = threading.RLock()  # one thread at a time takes what has arrived
        self._arrived = select.poll()
        self._arrived.register(connection, select.POLLIN)
        self._rest: memoryview | None = None  # of a frame that the socket did not take whole
        self._rest_descriptors: list[int] = []
        self._closed = False
        self._events = int(select.EPOLLIN)  # that the link's thread waits for
        self.freed: collections.deque[int] = collections.deque()
        self.sends = self.sent_bytes = 0

    def __repr__(self) -> str:
        return f"<LinkConnection to {self._label}: {'closed' if self._closed else 'open'}>"

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def post(self, message: Message, descriptors: list[int] | None = None) -> None:
        """Have a message sent with the next `flush`, and descriptors, which are closed then."""
        self._outbox.append((message, descriptors or []))

    def flush(self) -> None:
        """Send what was posted: at once, or on the link's thread when that has handled what came in."""
        if not self._thread.flushes(self):
            self.send()

    def send(self) -> None:
        """Send what was posted; what the socket does not take is sent when it does."""
        # Who finds another thread sending leaves its messages to that, which looks again once it is done.
        while self._outbox and self._sending.acquire(blocking=False):
            try:
                while self._outbox and self._rest is None and not self._closed:
                    self._send_batch()
                if self._closed:
                    self._drop()
                    return
                if self._rest is not None:
                    return
            finally:
                self._sending.release()

    def writable(self) -> None:
        """Send what the socket did not take before."""
        with self._sending:
            rest, self._rest = self._rest, None
            descriptors, self._rest_descriptors = self._rest_descriptors, []
            if rest is not None:
                self._write(rest, descriptors)
            if self._rest is None:
                self._watch(select.EPOLLIN)
        self.send()

    def read(self) -> int:
        """Handle what has arrived, unless another thread is about to; return how many messages that were."""
        if not self._reading.acquire(blocking=False):
            return 0
        try:
            return self._read()
        finally:
            self._reading.release()

    def take(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for what arrives, and handle it on this thread instead of the link's.

        Returns False at once where another thread is reading.
        """
        if self._closed or not self._reading.acquire(blocking=False):
            return False
        try:
            self._thread.watch(self, 0)
            if not self._closed and self._arrived.poll(timeout * 1e3):
                self._read()
        finally:
            self._thread.watch(self, self._events)
            self._reading.release()
        return True

    def _read(self) -> int:
        handled = 0
        try:
            with self._reader.room() as room:
                size, ancillary, flags, _ = self._socket.recvmsg_into(
                    [room], _ANCILLARY, socket.MSG_CMSG_CLOEXEC
                )
            for _, _, data in ancillary:
                descriptors = array.array("i")
                descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
                self._received.extend(descriptors)
            if not size:
                self._thread.end(self, f"{self._label} is gone")
                return 0
            if flags & _TRUNCATED:
                raise OSError("file descriptors were lost: there are too many")
            for messages, _ in self._reader.received(size):
                handled += len(messages)
                self._handle(messages, self._received)
        except BlockingIOError:
            pass
        except ConnectionError as error:
            self._thread.end(self, f"{self._label} is gone: {error.strerror}")
        except Exception as error:
            _log.error("the link to %s is ended: %s", self._label, error, exc_info=True)
            self._thread.end(self, f"the link is broken: {error}")
        return handled

    def end(self, reason: str) -> None:
        """Close the connection, and what was received or posted with it. Idempotent."""
        if self._closed:
            return
        self._thread.forget(self)
        with self._reading, self._sending:
            self._closed = True
            self._drop()
            self._socket.close()
        for descriptor in self._received:
            os.close(descriptor)
        self._received.clear()
        self._ended(reason)

    def _send_batch(self) -> None:
        batch: list[tuple[Message, list[int]]] = []
        count = 0
        if self.freed:
            batch.append(((FREE, [self.freed.popleft() for _ in range(len(self.freed))]), []))
        while self._outbox and len(batch) < _BATCH and count < _DESCRIPTORS:
            batch.append(self._outbox.popleft())
            count += len(batch[-1][1])
        try:
            frame = encode_frame([message for message, _ in batch], count)
        except Exception:
            batch = [each for each in batch if self._can_be_sent(*each)]
            frame = encode_frame([message for message, _ in batch], sum(len(each) for _, each in batch))
        self._write(memoryview(frame), [each for _, theirs in batch for each in theirs])

    def _can_be_sent(self, message: Message, descriptors: list[int]) -> bool:
        try:
            encode_frame([message], len(descriptors))
        except Exception as error:  # whatever pickling may raise
            _close(descriptors)
            self._unsent(message, error)
            return False
        return True

    def _write(self, frame: memoryview, descriptors: list[int]) -> None:
        try:
            if descriptors:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
                sent = self._socket.sendmsg([frame], rights)
            else:
                sent = self._socket.send(frame)
        except BlockingIOError:
            self._wait_for_room(frame, descriptors)
            return
        except OSError as error:
            if not isinstance(error, ConnectionError):
                _log.error("the link to %s is ended: %s", self._label, error)
            self._shut()  # so that it is read that the connection has ended
            sent = 0
        self.sends += 1
        self.sent_bytes += sent
        _close(descriptors)
        if 0 < sent < len(frame):
            self._wait_for_room(frame[sent:], [])

    def _wait_for_room(self, rest: memoryview, descriptors: list[int]) -> None:
        self._rest, self._rest_descriptors = rest, descriptors
        self._watch(select.EPOLLIN | select.EPOLLOUT)

    def _watch(self, events: int) -> None:
        self._events = events
        self._thread.watch(self, events)

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _drop(self) -> None:
        self._rest = None
        _close(self._rest_descriptors)
        while self._outbox:
            _close(self._outbox.popleft()[1])


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
    descriptors.clear()
