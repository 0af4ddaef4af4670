"""Lanes: named threads, and memory for all of them."""

from __future__ import annotations

import os
import threading

import pytest

from yais.core.topology import CpuSet
from yais.lane import Lane
from yais.memory.host import HostMemoryResource

SOON = 10.0


def test_each_stage_has_its_threads() -> None:
    lane = Lane("numa0", threads={"pre": 1, "execute": 2, "post": 0})
    assert set(lane.threads) == {"pre", "execute"}  # the others run where the stage before did
    for stage, pool in lane.threads.items():
        assert pool.submit(lambda: threading.current_thread().name).get(SOON).startswith(f"numa0-{stage}-")
    assert pool.statistics().threads == 2
    assert repr(lane).startswith("<Lane numa0: <ThreadPool numa0-pre: ")
    assert lane.close(SOON)


def test_there_is_an_arena_for_every_thread_and_the_queue() -> None:
    lane = Lane(threads={"pre": 1, "execute": 2})
    assert lane.staging.statistics().size == 4
    leases = [lane.staging.acquire(SOON) for _ in range(4)]
    assert len({id(lease.item) for lease in leases}) == 4 and lane.staging.try_acquire() is None
    for lease in leases:
        lease.release()
    assert lane.staging.statistics().available == 4
    assert lane.close(SOON)


def test_arenas_are_made_of_the_memory_given() -> None:
    memory = HostMemoryResource()
    lane = Lane(threads={}, memory=memory)
    assert lane.memory is memory
    with lane.staging.acquire(SOON) as arena:
        arena.reset(100)
        assert len(arena.take(100)) == 100
    assert lane.close(SOON)
    assert isinstance(Lane(threads={}).memory, HostMemoryResource)


def test_threads_run_on_the_cpus_given() -> None:
    cpu = min(os.sched_getaffinity(0))
    lane = Lane(threads={"execute": 1, "post": 1}, cpus=CpuSet([cpu]))
    before = os.sched_getaffinity(0)
    for pool in lane.threads.values():
        assert pool.submit(os.sched_getaffinity, 0).get(SOON) == {cpu}
    assert os.sched_getaffinity(0) == before
    assert lane.close(SOON)


def test_closing_finishes_what_is_queued() -> None:
    lane = Lane(threads={"execute": 1, "post": 1})
    go_on = threading.Event()
    futures = [lane.threads["execute"].submit(go_on.wait, SOON) for _ in range(3)]
    assert not lane.close(0.0)
    with pytest.raises(RuntimeError):  # the others are closed all the same
        lane.threads["post"].submit(print)
    go_on.set()
    assert all(future.get(SOON) for future in futures)
    assert lane.close(SOON)


def test_closing_gives_the_staging_memory_back() -> None:
    lane = Lane(threads={"execute": 1})
    with lane.staging.acquire(SOON) as arena:
        arena.reset(4096)
        assert arena.size == 4096
    assert lane.close(SOON)
    assert arena.size == 0
