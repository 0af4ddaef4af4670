"""The queues, by example and at random, against Triton's rules (kserve-v2.md, row 59)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from yais.inference.scheduling.direct import DirectQueue
from yais.inference.scheduling.dynamic import BatchingPolicy, DynamicQueue
from yais.inference.scheduling.queue import Batch, BatchQueue, CloseReason
from yais.testing import ManualClock


@dataclass(eq=False)
class Waiting:
    """An item that can be cancelled and may have a deadline."""

    size: int = 1
    group: Hashable = ""
    queued: int = 0
    deadline: int | None = None
    cancelled: bool = False

    def dead(self, now: int) -> bool:
        return self.cancelled or (self.deadline is not None and now >= self.deadline)


def dynamic(max_batch: int = 8, preferred: tuple[int, ...] = (), max_delay: int = 0) -> DynamicQueue[Waiting]:
    return DynamicQueue(BatchingPolicy(max_batch, preferred, max_delay))


def push(queue: BatchQueue[Waiting], *sizes: int, **item: Any) -> list[Waiting]:
    items = [Waiting(size, **item) for size in sizes]
    for item_ in items:
        queue.push(item_)
    return items


def sizes(batch: Batch[Waiting] | None) -> list[int] | None:
    return None if batch is None else [item.size for item in batch.items]


# --- The dynamic batcher by example -------------------------------------------------------------------


def test_nothing_comes_of_nothing() -> None:
    queue = dynamic()
    assert queue.take(0) is None and queue.wake_at() is None and not queue.reap() and not queue.full
    assert len(queue) == 0


def test_without_a_delay_all_that_waits_starts_at_once() -> None:
    queue = dynamic()
    items = push(queue, 1, 2, 1)
    batch = queue.take(0)
    assert batch is not None and list(batch.items) == items
    assert batch.size == 4 and batch.reason is CloseReason.IDLE
    assert len(queue) == 0 and queue.take(0) is None


@pytest.mark.parametrize(
    ("waiting", "first", "size", "rest"),
    [
        ([4, 4], [4, 4], 8, None),
        ([4, 4, 1], [4, 4], 8, [1]),
        ([3, 4, 2], [3, 4], 7, [2]),
        ([8], [8], 8, None),
        ([1, 8], [1], 1, [8]),
        ([7, 2, 1], [7], 7, [2, 1]),  # nobody overtakes
    ],
)
@pytest.mark.parametrize("max_delay", [0, 1000])
def test_a_full_batch_starts_at_once(
    waiting: list[int], first: list[int], size: int, rest: list[int] | None, max_delay: int
) -> None:
    queue = dynamic(max_delay=max_delay)
    push(queue, *waiting)
    assert queue.full
    batch = queue.take(0)
    assert sizes(batch) == first
    assert batch is not None and batch.size == size and batch.reason is CloseReason.FULL
    assert len(queue) == len(rest or [])
    assert sizes(queue.take(1000)) == rest


def test_another_shape_closes_a_batch() -> None:
    queue = dynamic(max_delay=1000)
    push(queue, 1, 1, group="a")
    push(queue, 1, group="b")
    push(queue, 1, group="a")
    batch = queue.take(0)
    assert sizes(batch) == [1, 1] and batch is not None and batch.reason is CloseReason.SHAPE
    batch = queue.take(0)
    assert batch is not None and [item.group for item in batch.items] == ["b"]
    assert batch.reason is CloseReason.SHAPE
    assert queue.take(999) is None  # the last one may still be joined
    batch = queue.take(1000)
    assert batch is not None and batch.reason is CloseReason.DELAY


def test_the_oldest_item_says_how_long_to_wait() -> None:
    queue = dynamic(max_delay=100)
    push(queue, 1, queued=10)
    assert queue.wake_at() == 110 and queue.take(10) is None
    push(queue, 1, queued=60)
    assert queue.wake_at() == 110 and queue.take(109) is None
    batch = queue.take(110)
    assert sizes(batch) == [1, 1] and batch is not None and batch.reason is CloseReason.DELAY
    assert queue.wake_at() is None
    push(queue, 1, queued=120)
    assert queue.wake_at() == 220


@pytest.mark.parametrize(
    ("waiting", "taken", "reason"),
    [
        ([1], None, None),
        ([2], [2], CloseReason.PREFERRED),
        ([1, 1], [1, 1], CloseReason.PREFERRED),
        ([1, 1, 1], [1, 1], CloseReason.PREFERRED),
        ([1, 1, 1, 1], [1, 1, 1, 1], CloseReason.PREFERRED),  # the largest that can be reached
        ([1, 1, 1, 1, 1], [1, 1, 1, 1], CloseReason.PREFERRED),
        ([3], None, None),
        ([3, 2], None, None),  # steps over it
        ([1, 2], None, None),
        ([3, 2, 4], [3, 2], CloseReason.FULL),
    ],
)
def test_preferred_sizes_start_at_once(
    waiting: list[int], taken: list[int] | None, reason: CloseReason | None
) -> None:
    queue = dynamic(preferred=(2, 4), max_delay=1000)
    push(queue, *waiting)
    batch = queue.take(0)
    assert sizes(batch) == taken
    assert (batch and batch.reason) == reason
    if batch is None:
        assert sizes(queue.take(1000)) == waiting


def test_preferred_sizes_do_not_wait() -> None:
    # Without a delay a size that is not preferred starts as well.
    queue = dynamic(preferred=(4,))
    push(queue, 1, 1)
    assert sizes(queue.take(0)) == [1, 1]


def test_a_preferred_size_only_counts_what_runs_together() -> None:
    queue = dynamic(preferred=(2,), max_delay=1000)
    push(queue, 1, group="a")
    push(queue, 1, group="b")
    batch = queue.take(0)
    assert sizes(batch) == [1] and batch is not None and batch.reason is CloseReason.SHAPE


def test_full_counts_items() -> None:
    queue = dynamic(max_batch=4, max_delay=1000)
    push(queue, 1, 2)
    assert not queue.full
    push(queue, 1)
    assert queue.full
    queue.take(0)
    assert not queue.full


def test_dead_items_are_set_aside() -> None:
    queue = dynamic(max_batch=4, max_delay=1000)
    first, second, third, fourth = push(queue, 1, 2, 1, 4)
    second.cancelled = True
    third.deadline = 50
    assert sizes(queue.take(49)) == [1, 1]
    assert queue.reap() == [second] and not queue.reap()
    assert len(queue) == 1 and queue.full and sizes(queue.take(49)) == [4]
    assert not queue.reap()
    assert first and fourth


def test_a_queue_of_the_dead_is_empty() -> None:
    queue = dynamic(max_delay=1000)
    items = push(queue, 1, 2, deadline=50)
    assert queue.take(50) is None
    assert sorted(map(id, queue.reap())) == sorted(map(id, items))
    assert len(queue) == 0 and not queue.full and queue.wake_at() is None


def test_the_dead_do_not_hold_up_the_living() -> None:
    # The delay counts from the oldest that lives; one of another shape that is dead closes nothing.
    queue = dynamic(max_delay=100)
    (old,) = push(queue, 1, queued=0)
    push(queue, 1, queued=60)
    (other,) = push(queue, 1, queued=61, group="other")
    push(queue, 1, queued=62)
    old.cancelled = other.cancelled = True
    assert queue.take(100) is None
    assert queue.wake_at() == 160
    assert sizes(queue.take(160)) == [1, 1]


def test_clear_takes_out_everything() -> None:
    for queue in (dynamic(max_batch=4), DirectQueue[Waiting]()):
        items = push(queue, 1, 2, 3)
        items[1].cancelled = True
        assert queue.clear() == items
        assert len(queue) == 0 and not queue.full and queue.take(0) is None and not queue.reap()
        push(queue, 1)
        assert sizes(queue.take(0)) == [1]


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ({"max_batch": 0}, "got max_batch=0, expected at least 1"),
        ({"max_batch": 4, "max_delay": -1}, "got max_delay=-1 ns, expected 0 or more"),
        ({"max_batch": 4, "preferred": (5,)}, "got a preferred batch size of 5, expected 1 to 4"),
        ({"max_batch": 4, "preferred": (2, 0)}, "got a preferred batch size of 0, expected 1 to 4"),
    ],
)
def test_policies_are_checked(policy: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        BatchingPolicy(**policy)


# --- The direct queue by example ----------------------------------------------------------------------


def test_the_direct_queue_gives_one_after_another() -> None:
    queue: DirectQueue[Waiting] = DirectQueue()
    assert not queue.full and queue.take(0) is None
    items = push(queue, 1, 5, 2)
    assert queue.full and queue.wake_at() is None and len(queue) == 3
    items[1].cancelled = True
    first, third = queue.take(0), queue.take(0)
    assert first is not None and third is not None
    assert (*first.items, *third.items) == (items[0], items[2])
    assert (first.size, third.size) == (1, 2) and first.reason is CloseReason.IDLE
    assert queue.reap() == [items[1]] and not queue.reap()
    assert queue.take(0) is None and not queue.full


# --- At random ----------------------------------------------------------------------------------------


class QueueMachine(RuleBasedStateMachine):
    """Pushes, takes, kills and waits, and checks every batch against what is known to wait."""

    queue: BatchQueue[Waiting]
    max_batch = 1
    max_delay = 0
    preferred: tuple[int, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(1000)
        self.waiting: list[Waiting] = []
        self.reaped: list[Waiting] = []

    @rule(data=st.data(), group=st.sampled_from("aab"), lifetime=st.none() | st.integers(0, 60))
    def push(self, data: st.DataObject, group: str, lifetime: int | None) -> None:
        size = data.draw(st.integers(1, self.max_batch))
        now = self.clock()
        item = Waiting(size, group, now, None if lifetime is None else now + lifetime)
        self.queue.push(item)
        self.waiting.append(item)

    @rule(nanoseconds=st.integers(0, 30))
    def wait(self, nanoseconds: int) -> None:
        self.clock.advance_ns(nanoseconds)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.waiting:
            data.draw(st.sampled_from(self.waiting)).cancelled = True

    @rule()
    def take(self) -> None:
        now = self.clock()
        before = list(self.waiting)
        batch = self.queue.take(now)
        for item in self.queue.reap():
            assert item.dead(now)
            self.waiting.remove(item)  # raises for one that is not there: reaped twice, or invented
            self.reaped.append(item)
        alive = [item for item in before if not item.dead(now)]
        if batch is None:
            self.check_nothing_is_due(alive, now)
        else:
            for item in batch.items:
                self.waiting.remove(item)
            self.check_batch(batch, alive, now)

    def check_batch(self, batch: Batch[Waiting], alive: list[Waiting], now: int) -> None:
        raise NotImplementedError

    def check_nothing_is_due(self, alive: list[Waiting], now: int) -> None:
        raise NotImplementedError

    @rule()
    def clear(self) -> None:
        assert self.queue.clear() == self.waiting
        self.waiting = []

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.queue) == len(self.waiting)

    def teardown(self) -> None:
        self.clock.advance_ns(10_000)
        for _ in range(len(self.waiting) + 1):
            self.take()
        assert not self.waiting and len(self.queue) == 0 and self.queue.wake_at() is None


class DynamicMachine(QueueMachine):
    @initialize(data=st.data(), max_batch=st.integers(1, 9), max_delay=st.sampled_from([0, 0, 10, 25, 100]))
    def begin(self, data: st.DataObject, max_batch: int, max_delay: int) -> None:
        preferred = tuple(data.draw(st.lists(st.integers(1, max_batch), max_size=2)))
        self.max_batch, self.max_delay, self.preferred = max_batch, max_delay, preferred
        self.queue = dynamic(max_batch, preferred, max_delay)

    def reachable(self, alive: list[Waiting]) -> list[Waiting]:
        """Return all that could run together with the oldest."""
        together: list[Waiting] = []
        for item in alive:
            fits = sum(other.size for other in together) + item.size <= self.max_batch
            if not fits or item.group != alive[0].group:
                break
            together.append(item)
        return together

    def sums(self, items: list[Waiting]) -> list[int]:
        return [sum(item.size for item in items[: count + 1]) for count in range(len(items))]

    def check_batch(self, batch: Batch[Waiting], alive: list[Waiting], now: int) -> None:
        items = list(batch.items)
        most = self.reachable(alive)
        assert items == alive[: len(items)], "first in, first out, none left out"
        assert items == most[: len(items)] and items, "of one group, and not too many"
        assert batch.size == sum(item.size for item in items) <= self.max_batch
        complete = len(most) < len(alive) or batch.size == self.max_batch
        reached = [size for size in self.sums(most) if size in self.preferred]
        if reached:
            assert batch.reason is CloseReason.PREFERRED and batch.size == max(reached)
            return
        assert items == most, "as many as can run together"
        if complete:
            follower = alive[len(most)] if len(most) < len(alive) else None
            too_large = follower is None or batch.size + follower.size > self.max_batch
            assert batch.reason is (CloseReason.FULL if too_large else CloseReason.SHAPE)
        elif not self.max_delay:
            assert batch.reason is CloseReason.IDLE
        else:
            assert batch.reason is CloseReason.DELAY
            assert now - items[0].queued >= self.max_delay

    def check_nothing_is_due(self, alive: list[Waiting], now: int) -> None:
        if not alive:
            return
        most = self.reachable(alive)
        assert len(most) == len(alive) and sum(item.size for item in most) < self.max_batch
        assert not set(self.sums(most)) & set(self.preferred)
        assert now - alive[0].queued < self.max_delay, "nobody waits longer than the delay"
        assert self.queue.wake_at() == alive[0].queued + self.max_delay

    @invariant()
    def full_means_enough(self) -> None:
        if self.waiting:
            assert self.queue.full == (sum(item.size for item in self.waiting) >= self.max_batch)


class DirectMachine(QueueMachine):
    @initialize()
    def begin(self) -> None:
        self.max_batch = 5
        self.queue = DirectQueue()

    def check_batch(self, batch: Batch[Waiting], alive: list[Waiting], now: int) -> None:
        assert list(batch.items) == alive[:1] and batch.size == alive[0].size

    def check_nothing_is_due(self, alive: list[Waiting], now: int) -> None:
        assert not alive

    @invariant()
    def one_is_enough(self) -> None:
        assert self.queue.full == bool(self.waiting) and self.queue.wake_at() is None


TestDynamicMachine = DynamicMachine.TestCase
TestDynamicMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestDirectMachine = DirectMachine.TestCase
TestDirectMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
