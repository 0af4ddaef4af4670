"""A bounded set of reusable items (buffers, streams, lanes) lent one at a time.

Taking a free item and returning it take no lock: `list.pop`, `list.append` and the deletion of a slot are
single steps under the interpreter's lock. Three ideas make that right.

- An item lies in `_free` inside a lease that is ready for use, so that a return is one append, which waits
  for nothing: a garbage collector may return an item wherever it happens to run.
- A lease is lent again only if nobody but the pool refers to it, which its reference count tells; else a
  fresh one takes its place. So a second `release` can never free what somebody else holds by now.
- A return first appends and then looks whether somebody waits; who waits first joins the queue and then
  looks whether something is free. One of the two sees the other, and `_settle` brings them together.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
import warnings
import weakref
from dataclasses import dataclass
from sys import getrefcount
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from yais.core.future import Future
from yais.core.wait_queue import WaitQueue
from yais.errors import DeadlineExceeded, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

__all__ = ["Lease", "Pool", "PoolStatistics"]

T = TypeVar("T")

_logger = logging.getLogger("yais.pool")


def _references_when_alone() -> int:
    popped = [object()].pop()
    return getrefcount(popped)


_ALONE = _references_when_alone()
"""What `getrefcount` says of a lease that is in one local variable and nowhere else."""


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """The numbers of a pool.

    Attributes
    ----------
    size
        Items that belong to the pool, lent or not.
    available
        Items that are free.
    lent
        Items that somebody holds, or that are on their way to who waited for one.
    waiting
        Callers who wait for an item.
    waits_total
        Waits that are over, of callers who found nothing free, whether they got an item or gave up.
    wait_seconds_total
        How long these waits took, all together.
    """

    size: int
    available: int
    lent: int
    waiting: int
    waits_total: int
    wait_seconds_total: float


class _Entry(Generic[T]):
    """An item's place in a pool, whichever lease it is lent with."""

    __slots__ = ("item", "lease_id", "pool")

    def __init__(self, item: T, pool: Pool[T]) -> None:
        self.item = item
        self.lease_id = 0  # `id` of the lease that answers for the item.
        self.pool = pool._reference


class Lease(Generic[T]):
    """One item lent by a `Pool`; leaving its context returns the item.

    Thread-safe. A lease that is garbage-collected without `release` returns its item too, with a
    ResourceWarning.
    """

    __slots__ = ("_entry", "_pool", "item")

    _pool: Pool[T]  # There only while the item is lent.

    def __init__(self, entry: _Entry[T]) -> None:
        self._entry = entry
        self.item = entry.item
        """What is lent; not to be touched after the release."""

    def release(self) -> None:
        """Return the item. Only the first call does anything; never blocks, but runs `on_return`."""
        try:
            pool = self._pool
            del self._pool  # Of many threads that come this far, it succeeds for one.
        except AttributeError:
            return
        if pool._on_return is not None:
            pool._tidy_and_return(self)
            return
        pool._free.append(self)
        if pool._waiting:
            pool._settle()

    def __enter__(self) -> T:
        return self.item

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __del__(self) -> None:
        # Also the way back for an item on its way to or from the pool when an interrupt (Ctrl-C) came.
        entry = self._entry
        if entry.lease_id != id(self):
            return
        try:
            if hasattr(self, "_pool"):
                warnings.warn(f"{self!r} was never released", ResourceWarning, source=self, stacklevel=2)
        finally:
            pool = entry.pool()
            if pool is not None:
                pool._tidy_and_return(_renewed(entry))

    def __repr__(self) -> str:
        pool = self._entry.pool()
        state = "held" if hasattr(self, "_pool") else "released"
        return f"<Lease of {self.item!r} from pool {'' if pool is None else pool.name!r}: {state}>"


def _renewed(entry: _Entry[T]) -> Lease[T]:
    lease = Lease(entry)
    entry.lease_id = id(lease)
    return lease


class Pool(Generic[T]):
    """Lends items one at a time, to those who wait in the order in which they came.

    The item returned last is lent first: its memory is the warmest. Thread-safe; threads, asyncio tasks and
    futures wait in one queue.

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
        # Weak, or no pool could be freed without the garbage collector; and one for all leases, kept here,
        # since the garbage collector clears a weak reference that is itself garbage.
        self._reference = weakref.ref(self)
        self._free = [_renewed(_Entry(item, self)) for item in items][::-1]
        if not self._free:
            raise ValueError(f"pool {name!r}: got no items, expected at least one")
        # Who waits; before them the removals, which take what comes back first.
        self._queue = WaitQueue()
        self._waiting = self._queue.places
        self._closed = False
        # Guards the pairing of items with those who wait, and all below.
        self._lock = threading.Lock()
        self._removals: set[Future[T]] = set()
        self._size = len(self._free)

    def acquire(self, timeout: float) -> Lease[T]:
        """Return a lease, waiting up to `timeout` seconds.

        Raises
        ------
        DeadlineExceeded
            Nothing became free in time.
        Unavailable
            The pool is closed, or was closed meanwhile.
        """
        # `_take`, written out: a call costs a third of it all.
        if not self._waiting:
            try:
                lease = self._free.pop()
            except IndexError:
                pass
            else:
                if getrefcount(lease) > _ALONE:
                    lease = _renewed(lease._entry)
                lease._pool = self
                return lease
        with self._place(timeout) as waiter:
            return waiter.result(timeout)

    def try_acquire(self) -> Lease[T] | None:
        """Return a lease if an item is free and nobody waits for one, else None. Never blocks.

        Raises
        ------
        Unavailable
            The pool is closed.
        """
        lease = self._take()
        if lease is None:
            self._check_open()
        return lease

    async def acquire_async(self, timeout: float) -> Lease[T]:  # noqa: ASYNC109 - one signature for both
        """Return a lease, waiting up to `timeout` seconds; raises as `acquire`.

        A task that is cancelled gives up its place, or the item if that was on its way.
        """
        lease = self.try_acquire()
        if lease is not None:
            return lease
        with self._place(timeout) as waiter:
            async with asyncio.timeout(timeout):
                return await waiter

    def acquire_future(self) -> Future[Lease[T]]:
        """Return a future that completes with a lease, for who can neither block nor await.

        `cancel` gives up the place in the queue; once it returns False the lease is the result of the
        future, for its holder to release. Callbacks run on the thread that returns the item, and must
        be short. A closed pool makes it fail with Unavailable.
        """
        waiter: Future[Lease[T]] = Future()
        lease = self._take()
        if lease is not None:
            waiter.set_result(lease)
        else:
            waiter.add_done_callback(self._queue.leave)
            self._join(waiter)
        return waiter

    def add(self, item: T) -> None:
        """Make the pool larger by an item, which is lent at once if somebody waits.

        Raises
        ------
        Unavailable
            The pool is closed.
        """
        with self._lock:
            self._check_open()
            self._size += 1
            self._free.append(_renewed(_Entry(item, self)))
        self._settle()

    def remove(self) -> Future[T]:
        """Make the pool smaller by the next item that is free, before anybody who waits.

        The future completes with the item, which is the caller's from then on: at once if one is free,
        else on the thread that returns it. It cannot be cancelled; `add` brings the item back.

        Raises
        ------
        ValueError
            All items are being removed already.
        """
        with self._lock:
            if len(self._removals) == self._size:
                raise ValueError(f"{self!r}: got one more removal, expected an item that is not removed yet")
            removal = self._place_removal()
        self._settle()
        return removal

    def close(self, timeout: float) -> bool:
        """Lend nothing any more, and wait up to `timeout` seconds for all items to come back.

        Who waits, and who comes later, gets Unavailable. May be called again, to wait longer. Items leave
        the pool as they come back, so `statistics().size` says how many are missing.

        Returns
        -------
        bool
            Whether all items are back, so that their owner may free them.
        """
        self._closed = True
        refused = []
        with self._lock:
            while (waiter := self._queue.take_first()) is not None:
                if waiter not in self._removals:
                    refused.append(waiter)
            for removal in self._removals:
                self._queue.join_first(removal)
            for _ in range(self._size - len(self._removals)):
                self._place_removal()
            removals = tuple(self._removals)
        for waiter in refused:
            self._refuse(waiter)
        self._settle()
        return not concurrent.futures.wait(removals, timeout).not_done

    def statistics(self) -> PoolStatistics:
        """Return the numbers of now. Not a snapshot: leases may come and go between two of them."""
        size, available = self._size, len(self._free)
        return PoolStatistics(
            size=size,
            available=available,
            lent=max(0, size - available),
            waiting=max(0, len(self._waiting) - len(self._removals)),
            waits_total=self._queue.waits,
            wait_seconds_total=self._queue.wait_seconds,
        )

    def __repr__(self) -> str:
        now = self.statistics()
        state = ", closed" if self._closed else ""
        return f"<Pool {self.name}: {now.available} of {now.size} free, {now.waiting} waiting{state}>"

    def _take(self) -> Lease[T] | None:
        if not self._waiting:
            try:
                lease = self._free.pop()
            except IndexError:
                pass
            else:
                if getrefcount(lease) > _ALONE:
                    lease = _renewed(lease._entry)
                lease._pool = self
                return lease
        return None

    def _unavailable(self) -> Unavailable:
        return Unavailable(f"{self!r} lends nothing any more, expected an open one")

    def _check_open(self) -> None:
        if self._closed:
            raise self._unavailable()

    @contextlib.contextmanager
    def _place(self, timeout: float) -> Iterator[Future[Lease[T]]]:
        """Join the queue. Leaving by an exception gives up the place, or the item on its way."""
        waiter: Future[Lease[T]] = Future()
        self._join(waiter)
        try:
            yield waiter
        except BaseException as error:
            self._queue.leave(waiter)
            if not waiter.cancel():
                waiter.add_done_callback(_release_late)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded(f"{self!r}: nothing became free within {timeout} s") from None
            raise

    def _join(self, waiter: Future[Lease[T]]) -> None:
        self._queue.join(waiter)
        # After joining: either this sees that the pool was closed, or `close` sees this.
        if self._closed and self._queue.leave(waiter):
            self._refuse(waiter)
        self._settle()

    def _refuse(self, waiter: Future[Lease[T]]) -> None:
        if waiter.set_running_or_notify_cancel():
            waiter.set_exception(self._unavailable())

    def _place_removal(self) -> Future[T]:
        removal: Future[T] = Future()
        removal.set_running_or_notify_cancel()
        self._removals.add(removal)
        self._queue.join_first(removal)
        return removal

    def _settle(self) -> None:
        """Give free items to those who wait, first come first served.

        Never blocks: who holds the lock calls this after releasing it, and finds the work then.
        """
        while self._free and self._waiting and self._lock.acquire(blocking=False):
            pair = None
            try:
                pair = self._pair()
            finally:
                self._lock.release()
            if pair is not None:
                pair[0].set_result(pair[1])  # Not under the lock: it runs callbacks.

    def _pair(self) -> tuple[Future[Any], T | Lease[T]] | None:
        """Take the first who waits out of the queue, and what it gets out of the pool."""
        try:
            lease = self._free.pop()
        except IndexError:
            return None
        waiter = self._queue.take_first()
        entry = lease._entry
        if waiter in self._removals:
            self._removals.remove(waiter)
            self._size -= 1
            entry.lease_id = 0
            return waiter, entry.item
        if waiter is None or not waiter.set_running_or_notify_cancel():
            self._free.append(lease)
            return None
        if getrefcount(lease) > _ALONE:
            lease = _renewed(entry)
        lease._pool = self
        return waiter, lease

    def _tidy_and_return(self, lease: Lease[T]) -> None:
        try:
            if self._on_return is not None:
                self._on_return(lease.item)
        except Exception:
            _logger.exception("pool %r: on_return raised for %r", self.name, lease.item)
        finally:
            self._free.append(lease)
            self._settle()


def _release_late(waiter: Future[Lease[Any]]) -> None:
    if waiter.exception() is None:
        waiter.result().release()
