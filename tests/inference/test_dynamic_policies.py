"""Priorities and queue policies of the dynamic queue, by example (kserve-v2.md, rows 61 and 62)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from queue_items import FREE, Waiting, push, taken

from yais.errors import DeadlineExceeded, Unavailable
from yais.inference.scheduling.dynamic import BatchingPolicy, DynamicQueue
from yais.inference.scheduling.queue import CloseReason
from yais.inference.scheduling.queue_policy import QueuePolicy, TimeoutAction

DELAY = TimeoutAction.DELAY


def limited(max_batch: int = 8, max_delay: int = 0, **policy: Any) -> DynamicQueue[Waiting]:
    """Return a queue without levels."""
    return DynamicQueue(
        BatchingPolicy(max_batch, max_delay=max_delay, default_queue_policy=QueuePolicy(**policy))
    )


def levelled(max_batch: int = 8, **policy: Any) -> DynamicQueue[Waiting]:
    """Return a queue with three levels; others are the second."""
    return DynamicQueue(BatchingPolicy(max_batch, priority_levels=3, default_priority=2, **policy))


# --- Priorities ---------------------------------------------------------------------------------------


def test_the_first_level_goes_first_whenever_it_came() -> None:
    queue = levelled(max_batch=2)
    low = push(queue, 1, 1, priority=3)
    high = push(queue, 1, 1, priority=1)
    middle = push(queue, 1, 1, priority=2)
    assert [taken(queue) for _ in range(3)] == [high, middle, low]


@pytest.mark.parametrize("priority", [0, 2, 4, 2**64 - 1])
def test_what_is_no_level_is_the_default(priority: int) -> None:
    queue = levelled(max_batch=1)
    low, middle = push(queue, 1, priority=3), push(queue, 1, priority=priority)
    same, high = push(queue, 1, priority=2), push(queue, 1, priority=1)
    assert [taken(queue) for _ in range(4)] == [high, middle, same, low]


def test_a_batch_spans_levels() -> None:
    queue = levelled(max_batch=4)
    low, high = push(queue, 1, 2, priority=3), push(queue, 1, priority=1)
    batch = queue.take(0, FREE)
    assert batch is not None and list(batch.items) == high + low
    assert batch.size == 4 and batch.reason is CloseReason.FULL and len(queue) == 0 and not queue.full


def test_another_shape_of_another_level_closes_a_batch() -> None:
    queue = levelled(max_delay=1000)
    other, high = push(queue, 1, priority=2, group="b"), push(queue, 1, priority=1, group="a")
    push(queue, 1, priority=3, group="a")
    batch = queue.take(0, FREE)
    assert batch is not None and list(batch.items) == high and batch.reason is CloseReason.SHAPE
    assert taken(queue) == other


def test_the_delay_counts_from_the_oldest_of_any_level() -> None:
    queue = levelled(max_delay=100)
    low = push(queue, 1, priority=3, queued=10)
    high = push(queue, 1, priority=1, queued=60)
    middle = push(queue, 1, priority=2, queued=70)
    assert queue.wake_at(free=True) == 110 and not taken(queue, 109)
    batch = queue.take(110, FREE)
    assert batch is not None and list(batch.items) == high + middle + low
    assert batch.reason is CloseReason.DELAY and queue.wake_at(free=True) is None


def test_two_levels_are_enough() -> None:
    queue: DynamicQueue[Waiting] = DynamicQueue(BatchingPolicy(1, priority_levels=2, default_priority=2))
    low, high = push(queue, 1), push(queue, 1, priority=1)
    assert [taken(queue), taken(queue)] == [high, low]


def test_a_single_level_is_no_priority() -> None:
    queue: DynamicQueue[Waiting] = DynamicQueue(BatchingPolicy(8, priority_levels=1, default_priority=1))
    items = push(queue, 1, priority=1) + push(queue, 1, priority=7) + push(queue, 1)
    assert taken(queue) == items


def test_a_policy_of_the_only_level_counts() -> None:
    policy = BatchingPolicy(
        8, priority_levels=1, default_priority=1, queue_policies={1: QueuePolicy(max_size=1)}
    )
    queue: DynamicQueue[Waiting] = DynamicQueue(policy)
    push(queue, 1)
    with pytest.raises(Unavailable, match=r"^Exceeds maximum queue size$"):
        push(queue, 1)


def test_clearing_takes_out_all_levels_in_their_order() -> None:
    queue = levelled(max_batch=2)
    low, high = push(queue, 1, 1, priority=3), push(queue, 1, 1, priority=1)
    high[0].cancelled = True
    assert queue.clear() == high + low
    assert len(queue) == 0 and not queue.full and queue.take(0, FREE) is None and not queue.reap(0)
    assert taken(queue) == [] and push(queue, 1) == taken(queue)


# --- Timeouts -----------------------------------------------------------------------------------------


def test_what_times_out_is_rejected_while_no_instance_is_free() -> None:
    queue = limited(default_timeout=100)
    assert queue.expires and queue.wake_at(free=False) is None
    old, new = push(queue, 1, queued=10), push(queue, 2, queued=50)
    assert queue.wake_at(free=False) == 110 and not queue.reap(109)
    (refused,) = queue.reap(110)
    assert refused.item is old[0] and not queue.reap(110)
    assert isinstance(refused.error, Unavailable) and str(refused.error) == "Request timeout expired"
    assert len(queue) == 1 and queue.wake_at(free=False) == 150
    assert taken(queue, 149) == new and queue.wake_at(free=False) is None


def test_what_times_out_is_rejected_when_a_batch_is_taken() -> None:
    queue = limited(max_batch=2, default_timeout=100)
    old, new = push(queue, 1, 1), push(queue, 1, queued=50)
    assert taken(queue, 100) == new and not queue.full
    assert [refused.item for refused in queue.reap(100)] == old


def test_a_batch_that_waits_is_not_closed_by_one_that_times_out() -> None:
    queue = limited(max_delay=1000, default_timeout=100)
    push(queue, 1), push(queue, 1, queued=50)
    assert queue.wake_at(free=True) == 100
    assert taken(queue, 100) == [] and len(queue.reap(100)) == 1
    assert queue.wake_at(free=True) == 150


def test_what_times_out_is_served_after_the_others_of_its_level() -> None:
    queue = levelled(max_batch=1, default_queue_policy=QueuePolicy(DELAY, default_timeout=100))
    assert not queue.expires
    old, low = push(queue, 1, 1, priority=1), push(queue, 1, priority=2)
    new = push(queue, 1, priority=1, queued=50)
    assert queue.wake_at(free=False) is None and queue.wake_at(free=True) == 0
    assert not queue.reap(100) and len(queue) == 4
    assert [taken(queue, 100) for _ in range(4)] == [new, old[:1], old[1:], low]


def test_what_is_delayed_keeps_its_order() -> None:
    queue = limited(max_batch=8, timeout_action=DELAY, allow_timeout_override=True)
    items = [push(queue, 1, timeout=timeout)[0] for timeout in (30, 20, 0, 10)]
    assert not queue.reap(15) and not queue.reap(25)
    assert taken(queue, 35) == [items[2], items[0], items[1], items[3]]


def test_the_delayed_count_for_the_delay() -> None:
    queue = limited(max_delay=100, timeout_action=DELAY, default_timeout=50)
    old, new = push(queue, 1), push(queue, 1, queued=40)
    assert taken(queue, 50) == [] and queue.wake_at(free=True) == 90
    assert taken(queue, 90) == [] and queue.wake_at(free=True) == 100
    assert taken(queue, 100) == old + new


@pytest.mark.parametrize(
    ("default", "override", "asked", "timeout"),
    [
        (0, False, 0, None),
        (0, False, 10, None),
        (50, False, 10, 50),
        (50, True, 0, 50),
        (50, True, 10, 10),
        (50, True, 90, 50),  # it may only be lowered
        (0, True, 10, 10),
        (0, True, 0, None),
    ],
)
def test_an_item_may_lower_its_timeout(default: int, override: bool, asked: int, timeout: int | None) -> None:
    queue = limited(default_timeout=default, allow_timeout_override=override, max_size=9)
    push(queue, 1, timeout=asked)
    assert queue.wake_at(free=False) == timeout
    assert len(queue.reap(10_000)) == (timeout is not None)


def test_levels_have_their_own_policies() -> None:
    queue = levelled(queue_policies={1: QueuePolicy(default_timeout=10), 3: QueuePolicy(DELAY, 20)})
    for level in (1, 2, 3):
        push(queue, 1, priority=level)
    assert queue.expires
    assert [refused.item.priority for refused in queue.reap(30)] == [1] and len(queue) == 2


def test_what_has_left_does_not_wake() -> None:
    queue = limited(max_batch=1, max_delay=1000, default_timeout=100)
    push(queue, 1), push(queue, 1, queued=50)
    assert taken(queue, 60)
    assert queue.wake_at(free=False) == 150 and queue.reap(149) == []


def test_timeouts_of_what_has_left_are_forgotten() -> None:
    queue = limited(max_batch=1, default_timeout=10**12)
    for _ in range(1000):
        push(queue, 1)
        taken(queue)
    push(queue, 1)
    assert queue._levels is not None and len(queue._levels._timeouts) < 100
    assert queue.wake_at(free=False) == 10**12


def test_timeouts_of_what_waits_are_not_forgotten() -> None:
    queue = levelled(max_batch=1, default_queue_policy=QueuePolicy(allow_timeout_override=True))
    waiting = push(queue, 1, priority=3)
    for index, timeout in enumerate(random.Random(0).sample(range(1000, 2000), 300)):
        if index % 8 == 0:
            waiting.append(push(queue, 1, priority=3, timeout=timeout)[0])
        push(queue, 1, priority=1, timeout=2999 - timeout)
        assert taken(queue)[0].priority == 1
    for now in range(999, 2000):
        due = [item for item in waiting if item.timeout == now]
        assert [refused.item for refused in queue.reap(now)] == due
    assert len(queue) == 1


# --- How many may wait --------------------------------------------------------------------------------


def test_a_queue_of_limited_size_refuses_more() -> None:
    queue = limited(max_batch=2, max_size=2)
    assert not queue.expires
    items = push(queue, 1, 1)
    with pytest.raises(Unavailable, match=r"^Exceeds maximum queue size$"):
        push(queue, 1)
    assert len(queue) == 2 and not queue.reap(0)
    assert taken(queue) == items
    assert push(queue, 1) == taken(queue)


def test_each_level_has_its_own_size() -> None:
    queue = levelled(default_queue_policy=QueuePolicy(max_size=1), queue_policies={3: QueuePolicy()})
    for level in (1, 2, 3, 3):
        push(queue, 1, priority=level)
    for level in (0, 1, 2):
        with pytest.raises(Unavailable):
            push(queue, 1, priority=level)


def test_the_delayed_count_for_the_size() -> None:
    queue = limited(timeout_action=DELAY, default_timeout=10, max_size=2)
    push(queue, 1), push(queue, 1, queued=5)
    with pytest.raises(Unavailable):
        push(queue, 1, queued=12)


def test_the_rejected_do_not_count_for_the_size() -> None:
    queue = limited(default_timeout=10, max_size=2)
    push(queue, 1), push(queue, 1, queued=5)
    (last,) = push(queue, 1, queued=12)
    assert len(queue.reap(12)) == 1 and taken(queue, 13)[-1] is last


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_the_dead_do_not_count_for_the_size(dead: int) -> None:
    queue = limited(max_size=3)
    items = push(queue, 1, 1, 1)
    items[dead].cancelled = True
    (last,) = push(queue, 1)
    (refused,) = queue.reap(0)
    assert refused.item is items.pop(dead) and isinstance(refused.error, DeadlineExceeded)
    with pytest.raises(Unavailable):
        push(queue, 1)
    assert taken(queue) == [*items, last]


def test_the_dead_of_another_level_make_no_room() -> None:
    queue = levelled(default_queue_policy=QueuePolicy(max_size=1))
    (high,) = push(queue, 1, priority=1)
    push(queue, 1, priority=3)
    high.cancelled = True
    with pytest.raises(Unavailable):
        push(queue, 1, priority=3)
    push(queue, 1, priority=1)


def test_a_long_queue_is_seldom_searched_for_the_dead() -> None:
    class Counted(Waiting):
        asked = 0

        def dead(self, now: int) -> bool:
            Counted.asked += 1
            return super().dead(now)

    queue = limited(max_size=320)
    items = [Counted() for _ in range(320)]
    for item in items:
        queue.push(item, 0)
    for _ in range(210):  # ten times what is between two searches
        with pytest.raises(Unavailable):
            push(queue, 1)
    assert Counted.asked == 320 * 10
    for item in items:
        item.cancelled = True
    for _ in range(21):
        try:
            (last,) = push(queue, 1)
        except Unavailable:
            continue
        break
    assert taken(queue)[0] is last and len(queue.reap(0)) == 320


# --- The living and the dead --------------------------------------------------------------------------


def test_dead_items_are_set_aside_of_any_level() -> None:
    queue = levelled(max_batch=4, default_queue_policy=QueuePolicy(DELAY, default_timeout=10))
    low, high = push(queue, 2, 2, priority=3), push(queue, 1, 1, priority=1)
    high[0].cancelled = low[0].cancelled = True
    assert taken(queue) == [high[1], low[1]]
    assert [refused.item for refused in queue.reap(0)] == [high[0], low[0]]
    assert len(queue) == 0 and not queue.full


def test_the_dead_in_front_are_found_while_no_instance_is_free() -> None:
    queue = levelled()
    low, high = push(queue, 1, priority=3), push(queue, 1, 1, 1, 1, priority=1)
    for index in (0, 1, 3):
        high[index].cancelled = True
    assert [refused.item for refused in queue.reap(0)] == high[:2]
    assert len(queue) == 3 and taken(queue) == [high[2], *low]


def test_a_queue_says_what_waits_by_level() -> None:
    queue = levelled(max_batch=4)
    assert repr(queue._levels) == "<PriorityQueue empty>"
    push(queue, 1, 2, priority=3), push(queue, 1, priority=1)
    assert repr(queue._levels) == "<PriorityQueue 1 of level 1, 2 of level 3>"
    assert repr(queue) == "<DynamicQueue 3 waiting, 4 of 4 for a batch>"


# --- Policies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ({"priority_levels": -1}, "got priority_levels=-1, expected 0 or more"),
        ({"priority_levels": 3}, "got default_priority=0, expected 1 to 3"),
        ({"priority_levels": 3, "default_priority": 4}, "got default_priority=4, expected 1 to 3"),
        ({"default_priority": 1}, "got default_priority=1 without priority levels, expected 0"),
        (
            {"queue_policies": {1: QueuePolicy()}},
            "got queue policies for levels 1 without priority levels, expected none",
        ),
        (
            {"priority_levels": 2, "default_priority": 1, "queue_policies": {3: QueuePolicy()}},
            "got a queue policy for level 3, expected 1 to 2",
        ),
        (
            {"priority_levels": 2, "default_priority": 1, "queue_policies": {0: QueuePolicy()}},
            "got a queue policy for level 0, expected 1 to 2",
        ),
        (
            {"priority_levels": 2, "default_priority": 1, "preserve_ordering": True},
            "got preserve_ordering with 2 priority levels, expected at most 1",
        ),
        (
            {"default_queue_policy": QueuePolicy(DELAY, 10), "preserve_ordering": True},
            "got preserve_ordering and timeouts that delay, expected them to reject",
        ),
        (
            {
                "priority_levels": 1,
                "default_priority": 1,
                "queue_policies": {1: QueuePolicy(DELAY, allow_timeout_override=True)},
                "preserve_ordering": True,
            },
            "got preserve_ordering and timeouts that delay, expected them to reject",
        ),
    ],
)
def test_levels_are_checked(policy: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        BatchingPolicy(8, **policy)


@pytest.mark.parametrize(
    "policy",
    [
        {"priority_levels": 1, "default_priority": 1, "preserve_ordering": True},
        {"default_queue_policy": QueuePolicy(DELAY), "preserve_ordering": True},  # nothing times out
        {"default_queue_policy": QueuePolicy(default_timeout=10), "preserve_ordering": True},
        {"priority_levels": 2, "default_priority": 2, "queue_policies": {2: QueuePolicy()}},
    ],
)
def test_these_are_allowed(policy: dict[str, Any]) -> None:
    assert hash(BatchingPolicy(8, **policy)) == hash(BatchingPolicy(8, **policy))


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ({"default_timeout": -1}, "got default_timeout=-1 ns, expected 0 or more"),
        ({"max_size": -1}, "got max_size=-1, expected 0 or more"),
    ],
)
def test_queue_policies_are_checked(policy: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        QueuePolicy(**policy)
