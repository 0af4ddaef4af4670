"""Overlapping windows of a stream of bytes, such as audio."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from yais.core.clock import Deadline
from yais.core.future import Future
from yais.errors import DeadlineExceeded
from yais.memory.buffer import Buffer
from yais.memory.host import HostMemoryResource
from yais.memory.resource import MemoryResource
from yais.memory.window_ring import WindowRing

__all__ = ["WindowedBuffer", "WindowedBufferStatistics"]


@dataclass(frozen=True, slots=True)
class WindowedBufferStatistics:
    """The numbers of a windowed buffer.

    `held` counts full windows whose memory cannot be written yet; the `ready` ones among them wait to be
    taken. The totals count bytes appended and windows given, the last and shorter one too.
    """

    windows: int
    held: int
    ready: int
    bytes_total: int
    windows_total: int


class WindowedBuffer:
    """Bytes go in; windows of a fixed size come out, each beginning with the end of the one before.

    Each window is one contiguous piece of the buffer's own memory, and nothing is copied but the overlap,
    once per lap. A window is held until it is closed and no view of it is left; its memory is not written
    before. One thread appends and closes; another, or a coroutine, takes the windows by `for` or
    `async for`: each is closed when the next one is asked for, so keep a view or an array, or a copy, of
    what is needed for longer. The iteration ends when the buffer is closed and all is taken.

    Parameters
    ----------
    window
        Bytes of each window.
    overlap
        Bytes that a window shares with the next one, less than `window`.
    windows
        Full windows that fit. With an overlap, the last of them and the first one share memory with their
        neighbours, so that all but one or two can be held while the stream goes on.
    resource
        Where the memory comes from: `window + (windows - 1) * (window - overlap)` bytes.
    on_window
        Called with each window by the thread that appends, instead of the iteration; the window is closed
        when it returns. What it raises comes out of `append`, which then leaves the rest of its bytes.
    timeout
        Seconds that the iteration waits for a window before it raises DeadlineExceeded.
    """

    def __init__(
        self,
        window: int,
        overlap: int,
        windows: int,
        *,
        resource: MemoryResource | None = None,
        on_window: Callable[[Buffer], object] | None = None,
        timeout: float = 60.0,
    ) -> None:
        if windows < 1 or not 0 <= overlap < window:
            raise ValueError(
                f"got {windows} windows of {window} bytes that overlap by {overlap}, "
                "expected at least 1 and less overlap than window"
            )
        self._ring = WindowRing(window, overlap, windows)
        resource = resource if resource is not None else HostMemoryResource()
        self._buffer = Buffer.of(resource.allocate(self._ring.size))
        # The ring belongs to the thread that appends. What is released, perhaps by a garbage collector that
        # runs in the middle of anything, reaches it through a queue made for that.
        self._released: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._on_window = on_window
        self._timeout = timeout
        self._bytes = self._given = 0
        self._closed = False
        # Guards what the one side has for the other.
        self._lock = threading.Lock()
        self._ready: collections.deque[Buffer] = collections.deque()
        self._waiter: Future[Buffer | None] | None = None
        self._ended = False

    def __repr__(self) -> str:
        now = self.statistics()
        return (
            f"<WindowedBuffer{' (closed)' if self._closed else ''}: "
            f"{now.held} of {now.windows} windows held, {now.ready} of them ready>"
        )

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return self._ring.size

    def append(self, data: Any, *, timeout: float) -> None:
        """Add bytes to the stream, waiting up to `timeout` seconds in all for windows to be released.

        Parameters
        ----------
        data
            Anything with the buffer protocol, contiguous.
        timeout
            In seconds.

        Raises
        ------
        DeadlineExceeded
            The message says how many were taken; the others are not part of the stream.
        RuntimeError
            The buffer is closed.
        """
        source = Buffer.of(data).view
        deadline = Deadline.after(timeout)
        taken = self.try_append(source)
        while taken < source.nbytes:
            try:
                self._ring.release(self._released.get(timeout=deadline.remaining()))
            except queue.Empty:
                raise DeadlineExceeded(
                    f"{self!r}: took {taken} of {source.nbytes} bytes within {timeout} s"
                ) from None
            taken += self.try_append(source[taken:])

    def try_append(self, data: Any) -> int:
        """Add as many bytes as there is room for, and return how many. Never waits.

        Raises
        ------
        RuntimeError
            The buffer is closed.
        """
        if self._closed:
            raise RuntimeError(f"{self!r}: expected it open")
        source = Buffer.of(data).view
        taken = 0
        while count := self._write(source[taken:]):
            taken += count
        return taken

    def close(self) -> None:
        """End the stream: what is in no window yet is given as a last, shorter one. Idempotent.

        The memory goes back when the last window is gone.
        """
        if self._closed:
            return
        self._closed = True
        if self._ring.fresh:
            start, (end, _) = self._ring.start, self._ring.room
            self._give(Buffer(self._buffer.view[start:end]))
        self._buffer.close()
        with self._lock:
            self._ended = True
            if self._waiter is not None and self._waiter.set_running_or_notify_cancel():
                self._waiter.set_result(None)

    def statistics(self) -> WindowedBufferStatistics:
        """Return the numbers of now. Not a snapshot: windows may come and go between two of them."""
        held = len(self._ring.held) - self._released.qsize()
        return WindowedBufferStatistics(self._ring.slots, held, len(self._ready), self._bytes, self._given)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Buffer]:
        while True:
            with self._next() as future:
                window = future.result(self._timeout)
            if window is None:
                return
            with window:
                yield window

    async def __aiter__(self) -> AsyncIterator[Buffer]:
        while True:
            with self._next() as future:
                async with asyncio.timeout(self._timeout):
                    window = await future
            if window is None:
                return
            with window:
                yield window

    @contextlib.contextmanager
    def _next(self) -> Iterator[Future[Buffer | None]]:
        """Ask for the next window, or None for the end. Leaving by an exception puts it back."""
        future: Future[Buffer | None] = Future()
        with self._lock:
            if self._ready:
                future.set_result(self._ready.popleft())
            elif self._ended:
                future.set_result(None)
            else:
                self._waiter = future
        try:
            yield future
        except BaseException as error:
            with self._lock:
                self._waiter = None
                window = None if future.cancel() else future.result()
                if window is not None:
                    self._ready.appendleft(window)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded(f"{self!r}: no window within {self._timeout} s") from None
            raise

    def _write(self, source: memoryview) -> int:
        """Take the bytes that fit in one piece, and return how many."""
        ring, view = self._ring, self._buffer.view
        while not self._released.empty():
            ring.release(self._released.get())
        if ring.wraps:
            view[: ring.overlap] = view[ring.size - ring.overlap :]
            ring.wrap()
        start, number, (offset, room) = ring.start, ring.number, ring.room
        count = min(room, source.nbytes)
        view[offset : offset + count] = source[:count]
        self._bytes += count
        if count and ring.write(count):
            window = view[start : start + ring.window]
            self._give(Buffer(window, functools.partial(self._released.put, number)))
        return count

    def _give(self, window: Buffer) -> None:
        self._given += 1
        if self._on_window is not None:
            with window:
                self._on_window(window)
            return
        with self._lock:
            waiter, self._waiter = self._waiter, None
            if waiter is not None and waiter.set_running_or_notify_cancel():
                waiter.set_result(window)
            else:
                self._ready.append(window)
