"""A bounded set of reusable items (buffers, streams, lanes) lent one at a time.

Two ideas make the pool. A lease that is returned only appends to a list, which is atomic and waits for
nothing, so that a garbage collector may return one wherever it happens to run. And whoever may have
left a free item beside a waiting caller calls `_settle`, which brings the two together.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from yais.core.clock import NANOSECONDS, monotonic
from yais.core.future import Future
from yais.errors import DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

__all__ = ["Lease", "Pool", "PoolStatistics"]

T = TypeVar("T")

_logger = logging.getLogger("yais.pool")


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """The numbers of a pool.

    `acquired_total` counts leases since the pool was made; `wait_seconds_total` sums how long callers
    who found nothing free waited, whether they got an item or gave up.
    """

    size: int
    available: int
    waiting: int
    acquired_total: int
    wait_seconds_total: float


class Lease(Generic[T]):
    """One item lent by a `Pool`; leaving its context returns the item.

    Thread-safe. A lease that is garbage-collected without `release` returns its item too, with a
    ResourceWarning.
    """

    __slots__ = ("_pool", "_serial", "item")

    def __init__(self, pool: Pool[T], serial: int, item: T) -> None:
        self._pool = pool
        self._serial = serial
        self.item = item
        """What is lent; not to be touched after the release."""

    def release(self) -> None:
        """Return the item. Only the first call does anything; never blocks, but runs `on_return`."""
        self._pool._give_back(self._serial)

    def __enter__(self) -> T:
        return self.item

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __del__(self) -> None:
        if self._serial in self._pool._lent:
            try:
                warnings.warn(f"{self!r} was never released", ResourceWarning, source=self, stacklevel=2)
            finally:
                self.release()

    def __repr__(self) -> str:
        state = "held" if self._serial in self._pool._lent else "released"
        return f"<Lease of {self.item!r} from pool {self._pool.name!r}: {state}>"


class Pool(Generic[T]):
    """Lends items one at a time, to those who wait in the order in which they came.

    The item returned last is lent first: its memory is the warmest. Thread-safe; threads and asyncio
    tasks wait in one queue.

    Parameters
    ----------
    items
        What to lend. At least one.
    name
        Names the pool in errors and logs.
    on_return
        Called with each item before it becomes available again, on the thread that releases it (for an
        unreleased lease, whichever runs the garbage collector). What it raises is logged.
    """

    def __init__(
        self, items: Iterable[T], *, name: str = "", on_return: Callable[[T], None] | None = None
    ) -> None:
        self.name = name
        self._on_return = on_return
        self._free = list(items)[::-1]
        self._size = len(self._free)
        if not self._free:
            raise ValueError(f"pool {name!r}: got no items, expected at least one")
        self._lent: dict[int, T] = {}
        # Guards all below, and taking from `_free`. Adding to `_free` needs no lock.
        self._lock = threading.Lock()
        self._waiting: collections.OrderedDict[Future[Lease[T]], int] = collections.OrderedDict()
        self._acquired = 0
        self._waited = 0

    def try_acquire(self) -> Lease[T] | None:
        """Return a lease if an item is free and nobody waits for one, else None. Never blocks."""
        with self._lock:
            lease = self._lend() if self._free and not self._waiting else None
        self._settle()
        return lease

    def acquire(self, timeout: float) -> Lease[T]:
        """Return a lease, waiting up to `timeout` seconds; then raises DeadlineExceeded."""
        lease = self.try_acquire()
        if lease is not None:
            return lease
        with self._place(timeout) as waiter:
            return waiter.result(timeout)

    async def acquire_async(self, timeout: float) -> Lease[T]:  # noqa: ASYNC109 - one signature for both
        """Return a lease, waiting up to `timeout` seconds; then raises DeadlineExceeded.

        A task that is cancelled gives up its place, or the item if that was on its way.
        """
        lease = self.try_acquire()
        if lease is not None:
            return lease
        with self._place(timeout) as waiter:
            async with asyncio.timeout(timeout):
                return await waiter

    def statistics(self) -> PoolStatistics:
        """Return the numbers of now. Not a snapshot: leases may come and go between two of them."""
        return PoolStatistics(
            self._size, len(self._free), len(self._waiting), self._acquired, self._waited / NANOSECONDS
        )

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<Pool {self.name}: {now.available} of {now.size} free, {now.waiting} waiting>"

    @contextlib.contextmanager
    def _place(self, timeout: float) -> Iterator[Future[Lease[T]]]:
        """Join the queue. Leaving by an exception gives up the place, or the item on its way."""
        waiter: Future[Lease[T]] = Future()
        with self._lock:
            self._waiting[waiter] = monotonic()
        self._settle()
        try:
            yield waiter
        except BaseException as error:
            self._leave(waiter)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded(f"{self!r}: nothing became free within {timeout} s") from None
            raise

    def _leave(self, waiter: Future[Lease[T]]) -> None:
        with self._lock:
            if waiter in self._waiting:
                self._waited += monotonic() - self._waiting.pop(waiter)
        if not waiter.cancel():
            waiter.add_done_callback(lambda late: late.result().release())
        self._settle()

    def _settle(self) -> None:
        """Give free items to those who wait, first come first served.

        Never blocks: who holds the lock calls this after releasing it, and finds the work then.
        """
        while self._free and self._waiting and self._lock.acquire(blocking=False):
            lease = None
            try:
                if self._free and self._waiting:
                    waiter, since = self._waiting.popitem(last=False)
                    self._waited += monotonic() - since
                    if waiter.set_running_or_notify_cancel():
                        lease = self._lend()
            finally:
                self._lock.release()
            if lease is not None:
                waiter.set_result(lease)

    def _lend(self) -> Lease[T]:
        item = self._free.pop()
        self._acquired += 1
        self._lent[self._acquired] = item
        return Lease(self, self._acquired, item)

    def _give_back(self, serial: int) -> None:
        # Taking the entry out of the dict is the atomic step that makes a release happen once.
        try:
            item = self._lent.pop(serial)
        except KeyError:
            return
        try:
            if self._on_return is not None:
                self._on_return(item)
        except Exception:
            _logger.exception("pool %r: on_return raised for %r", self.name, item)
        finally:
            self._free.append(item)
            self._settle()
