"""What resources.py measures: each case is one piece of work, done by yais and by another."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from yais.core.pool import Pool
from yais.core.thread_pool import ThreadPool
from yais.memory.arena import Arena
from yais.memory.host import HostMemoryResource
from yais.memory.ring_arena import RingArena

__all__ = ["CASES", "Case", "Goal", "Work"]

Work = Callable[[int], None]
"""Does the work of a case so many times."""

_LONG = 60.0
"""Seconds after which a wait is an error; never reached."""

_THREADS = 2
_CALLS = 10_000
_PIECE = 4096  # bytes


@dataclass(frozen=True)
class Goal:
    """What the cost of yais may be at most: times that of the other, or microseconds more."""

    bound: float
    figure: str = "ratio"

    def __str__(self) -> str:
        return f"at most {self.bound:g}" + (" µs more" if self.figure == "difference" else "")


@dataclass(frozen=True)
class Case:
    """One piece of work.

    Attributes
    ----------
    name
        What is done.
    yais, other
        Set up, give the work, and clean up.
    against
        What the other is.
    goal
        What is to be reached; None for what is only measured.
    """

    name: str
    yais: Callable[[], AbstractContextManager[Work]]
    other: Callable[[], AbstractContextManager[Work]]
    against: str
    goal: Goal | None = None


# --- Pool -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _pool() -> Iterator[Work]:
    pool = Pool([1, 2])

    def work(count: int) -> None:
        for _ in range(count):
            pool.acquire(_LONG).release()

    yield work


def _simple_queue() -> queue.SimpleQueue[int]:
    items: queue.SimpleQueue[int] = queue.SimpleQueue()
    items.put(1)
    items.put(2)
    return items


@contextlib.contextmanager
def _queue() -> Iterator[Work]:
    items = _simple_queue()

    def work(count: int) -> None:
        for _ in range(count):
            items.put(items.get(timeout=_LONG))

    yield work


@contextlib.contextmanager
def _queue_without_timeout() -> Iterator[Work]:
    items = _simple_queue()

    def work(count: int) -> None:
        for _ in range(count):
            items.put(items.get())

    yield work


def _by_four_threads(
    one: Callable[[], AbstractContextManager[Work]],
) -> Callable[[], AbstractContextManager[Work]]:
    @contextlib.contextmanager
    def four() -> Iterator[Work]:
        with one() as alone:

            def work(count: int) -> None:
                threads = [threading.Thread(target=alone, args=(-(-count // 4),)) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

            yield work

    return four


def _busy(data: bytes) -> None:
    """Compute for a while, without the interpreter's lock."""
    hashlib.sha256(data)


@contextlib.contextmanager
def _pool_while_busy(size: int) -> Iterator[Work]:
    pool, data = Pool([1, 2]), bytes(size)

    def work(count: int) -> None:
        for _ in range(count):
            with pool.acquire(_LONG):
                _busy(data)

    yield work


@contextlib.contextmanager
def _queue_while_busy(size: int) -> Iterator[Work]:
    items, data = _simple_queue(), bytes(size)

    def work(count: int) -> None:
        for _ in range(count):
            item = items.get(timeout=_LONG)
            _busy(data)
            items.put(item)

    yield work


def _contended(name: str, size: int) -> Case:
    return Case(
        f"Pool of 2, 4 threads, each item held for a SHA-256 of {name}",
        _by_four_threads(lambda: _pool_while_busy(size)),
        _by_four_threads(lambda: _queue_while_busy(size)),
        "SimpleQueue.get(timeout), put",
    )


# --- ThreadPool -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _yais_threads(threads: int = _THREADS) -> Iterator[concurrent.futures.Executor]:
    with ThreadPool(threads, name="benchmark") as pool:
        yield pool


@contextlib.contextmanager
def _standard_threads(threads: int = _THREADS) -> Iterator[concurrent.futures.Executor]:
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for _ in range(threads):  # It starts them one by one, as calls come that find none idle.
            pool.submit(threading.Event().wait, 0.05)
        yield pool


def _one_call(
    threads: Callable[[], AbstractContextManager[concurrent.futures.Executor]],
) -> Callable[[], AbstractContextManager[Work]]:
    @contextlib.contextmanager
    def call() -> Iterator[Work]:
        with threads() as pool:

            def work(count: int) -> None:
                for _ in range(count):
                    pool.submit(int).result(_LONG)

            yield work

    return call


def _many_calls(
    threads: Callable[[], AbstractContextManager[concurrent.futures.Executor]],
) -> Callable[[], AbstractContextManager[Work]]:
    @contextlib.contextmanager
    def calls() -> Iterator[Work]:
        with threads() as pool:

            def work(count: int) -> None:
                for first in range(0, count, _CALLS):
                    futures = [pool.submit(int) for _ in range(min(_CALLS, count - first))]
                    for future in futures:
                        future.result(_LONG)

            yield work

    return calls


# --- Memory ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _arena() -> Iterator[Work]:
    arena = Arena(HostMemoryResource(), _PIECE)

    def work(count: int) -> None:
        for _ in range(count):
            arena.take(_PIECE)
            arena.reset()

    yield work
    arena.close()


@contextlib.contextmanager
def _ring_arena() -> Iterator[Work]:
    ring = RingArena(HostMemoryResource(), segments=3, segment_size=16 * _PIECE)

    def work(count: int) -> None:
        for _ in range(count):
            ring.allocate(_PIECE, timeout=_LONG).close()

    yield work
    ring.close()


@contextlib.contextmanager
def _host_memory() -> Iterator[Work]:
    resource = HostMemoryResource()

    def work(count: int) -> None:
        for _ in range(count):
            resource.allocate(_PIECE).close()

    yield work


@contextlib.contextmanager
def _buffer_views() -> Iterator[Work]:
    with HostMemoryResource().allocate(_PIECE) as buffer:

        def work(count: int) -> None:
            for _ in range(count):
                buffer.array(np.float32, (32, 32))

        yield work


@contextlib.contextmanager
def _numpy_views() -> Iterator[Work]:
    memory = memoryview(bytearray(_PIECE))

    def work(count: int) -> None:
        for _ in range(count):
            np.frombuffer(memory, np.float32).reshape(32, 32)

    yield work


# --- All ------------------------------------------------------------------------------------------------

CASES: list[Case] = [
    Case("Pool.acquire(timeout), release", _pool, _queue, "SimpleQueue.get(timeout), put", Goal(1.5)),
    Case("Pool.acquire(timeout), release", _pool, _queue_without_timeout, "SimpleQueue.get(), put"),
    Case(
        "Pool of 2, 4 threads, nothing done with the item",
        _by_four_threads(_pool),
        _by_four_threads(_queue),
        "SimpleQueue.get(timeout), put",
    ),
    _contended("64 KiB", 1 << 16),
    _contended("1 MiB", 1 << 20),
    Case(
        f"ThreadPool({_THREADS}), submit and wait, one by one",
        _one_call(_yais_threads),
        _one_call(_standard_threads),
        "ThreadPoolExecutor",
        Goal(0.7),
    ),
    Case(
        f"ThreadPool({_THREADS}), submit {_CALLS:,}, wait for all",
        _many_calls(_yais_threads),
        _many_calls(_standard_threads),
        "ThreadPoolExecutor",
        Goal(0.7),
    ),
    Case("Arena.take(4 KiB), reset", _arena, _host_memory, "HostMemoryResource.allocate, close"),
    Case("RingArena.allocate(4 KiB), close", _ring_arena, _host_memory, "HostMemoryResource.allocate, close"),
    Case("Buffer.array(float32, (32, 32))", _buffer_views, _numpy_views, "numpy.frombuffer, reshape"),
]
"""Those of pools, threads and memory, in the order of the table."""
