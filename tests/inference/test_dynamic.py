"""The direct and the dynamic queue, by example, against Triton's rules (kserve-v2.md, rows 58 and 59)."""

from __future__ import annotations

from typing import Any

import pytest
from queue_items import FREE, Waiting, push, sizes

from yais.errors import DeadlineExceeded
from yais.inference.scheduling.direct import DirectQueue
from yais.inference.scheduling.dynamic import BatchingPolicy, DynamicQueue
from yais.inference.scheduling.queue import CloseReason


def dynamic(max_batch: int = 8, preferred: tuple[int, ...] = (), max_delay: int = 0) -> DynamicQueue[Waiting]:
    return DynamicQueue(BatchingPolicy(max_batch, preferred, max_delay))


# --- The dynamic batcher by example -------------------------------------------------------------------


def test_nothing_comes_of_nothing() -> None:
    queue = dynamic()
    assert queue.take(0, FREE) is None and queue.wake_at(free=True) is None and not queue.reap(0)
    assert len(queue) == 0 and not queue.full


def test_without_a_delay_all_that_waits_starts_at_once() -> None:
    queue = dynamic()
    items = push(queue, 1, 2, 1)
    batch = queue.take(0, FREE)
    assert batch is not None and list(batch.items) == items
    assert batch.size == 4 and batch.reason is CloseReason.INSTANCE
    assert len(queue) == 0 and queue.take(0, FREE) is None


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
    batch = queue.take(0, FREE)
    assert sizes(batch) == first
    assert batch is not None and batch.size == size and batch.reason is CloseReason.FULL
    assert len(queue) == len(rest or [])
    assert sizes(queue.take(1000, FREE)) == rest


def test_another_shape_closes_a_batch() -> None:
    queue = dynamic(max_delay=1000)
    push(queue, 1, 1, group="a")
    push(queue, 1, group="b")
    push(queue, 1, group="a")
    batch = queue.take(0, FREE)
    assert sizes(batch) == [1, 1] and batch is not None and batch.reason is CloseReason.SHAPE
    batch = queue.take(0, FREE)
    assert batch is not None and [item.group for item in batch.items] == ["b"]
    assert batch.reason is CloseReason.SHAPE
    assert queue.take(999, FREE) is None  # the last one may still be joined
    batch = queue.take(1000, FREE)
    assert batch is not None and batch.reason is CloseReason.DELAY


def test_the_oldest_item_says_how_long_to_wait() -> None:
    queue = dynamic(max_delay=100)
    push(queue, 1, queued=10)
    assert queue.wake_at(free=True) == 110 and queue.take(10, FREE) is None
    push(queue, 1, queued=60)
    assert queue.wake_at(free=True) == 110 and queue.take(109, FREE) is None
    batch = queue.take(110, FREE)
    assert sizes(batch) == [1, 1] and batch is not None and batch.reason is CloseReason.DELAY
    assert queue.wake_at(free=True) is None
    push(queue, 1, queued=120)
    assert queue.wake_at(free=True) == 220


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
        ([4, 4], [4, 4], CloseReason.FULL),
    ],
)
def test_preferred_sizes_start_at_once(
    waiting: list[int], taken: list[int] | None, reason: CloseReason | None
) -> None:
    queue = dynamic(preferred=(2, 4, 8), max_delay=1000)
    push(queue, *waiting)
    batch = queue.take(0, FREE)
    assert sizes(batch) == taken
    assert (batch and batch.reason) == reason
    if batch is None:
        assert sizes(queue.take(1000, FREE)) == waiting


def test_preferred_sizes_do_not_wait() -> None:
    # Without a delay a size that is not preferred starts as well.
    queue = dynamic(preferred=(4,))
    push(queue, 1, 1)
    assert sizes(queue.take(0, FREE)) == [1, 1]


def test_a_preferred_size_only_counts_what_runs_together() -> None:
    queue = dynamic(preferred=(2,), max_delay=1000)
    push(queue, 1, group="a")
    push(queue, 1, group="b")
    batch = queue.take(0, FREE)
    assert sizes(batch) == [1] and batch is not None and batch.reason is CloseReason.SHAPE


def test_full_counts_items() -> None:
    queue = dynamic(max_batch=4, max_delay=1000)
    push(queue, 1, 2)
    assert not queue.full
    push(queue, 1)
    assert queue.full
    queue.take(0, FREE)
    assert not queue.full


def test_dead_items_are_set_aside() -> None:
    queue = dynamic(max_batch=4, max_delay=1000)
    first, second, third, fourth = push(queue, 1, 2, 1, 4)
    second.cancelled = True
    third.deadline = 50
    assert sizes(queue.take(49, FREE)) == [1, 1]
    (refused,) = queue.reap(49)
    assert refused.item is second and isinstance(refused.error, DeadlineExceeded)
    assert not queue.reap(49)
    assert len(queue) == 1 and queue.full and sizes(queue.take(49, FREE)) == [4]
    assert not queue.reap(49)
    assert first and fourth


def test_a_queue_of_the_dead_is_empty() -> None:
    queue = dynamic(max_delay=1000)
    items = push(queue, 1, 2, deadline=50)
    assert queue.take(50, FREE) is None
    assert [refused.item for refused in queue.reap(50)] == items
    assert len(queue) == 0 and not queue.full and queue.wake_at(free=True) is None


def test_the_dead_do_not_hold_up_the_living() -> None:
    # The delay counts from the oldest that lives; one of another shape that is dead closes nothing.
    queue = dynamic(max_delay=100)
    (old,) = push(queue, 1, queued=0)
    push(queue, 1, queued=60)
    (other,) = push(queue, 1, queued=61, group="other")
    push(queue, 1, queued=62)
    old.cancelled = other.cancelled = True
    assert queue.take(100, FREE) is None
    assert queue.wake_at(free=True) == 160
    assert sizes(queue.take(160, FREE)) == [1, 1]


def test_an_item_that_dies_behind_a_full_batch_is_no_matter() -> None:
    queue = dynamic(max_batch=4)
    first, second = push(queue, 4, 1)
    second.cancelled = True
    assert sizes(queue.take(0, FREE)) == [4]
    assert queue.take(0, FREE) is None and [refused.item for refused in queue.reap(0)] == [second]
    assert first


def test_a_dead_item_that_would_not_fit_closes_nothing() -> None:
    queue = dynamic(max_batch=4)
    _, second, _ = push(queue, 3, 2, 1)
    second.cancelled = True
    batch = queue.take(0, FREE)
    assert sizes(batch) == [3, 1] and batch is not None and batch.reason is CloseReason.FULL


def test_a_batch_runs_on_a_free_instance() -> None:
    queue = dynamic(max_batch=1)
    push(queue, 1, 1)
    assert queue.take(0, ()) is None
    first, second = queue.take(0, (3, 1)), queue.take(0, (3,))
    assert first is not None and second is not None
    assert first.instance in (3, 1) and second.instance == 3


def test_nothing_has_to_be_done_while_no_instance_is_free() -> None:
    queue = dynamic(max_delay=1000)
    push(queue, 1)
    assert not queue.expires and queue.wake_at(free=False) is None


def test_hurrying_ends_the_wait() -> None:
    queue = dynamic(max_delay=1000)
    push(queue, 1)
    assert queue.take(0, FREE) is None
    queue.hurry()
    assert queue.wake_at(free=True) == 0 and sizes(queue.take(0, FREE)) == [1]


def test_a_queue_says_what_waits() -> None:
    queue = dynamic()
    push(queue, 1, 2)
    assert repr(queue) == "<DynamicQueue 2 waiting, 3 of 8 for a batch>"


def test_clear_takes_out_everything() -> None:
    for queue in (dynamic(max_batch=4), DirectQueue[Waiting]()):
        items = push(queue, 1, 2, 3)
        items[1].cancelled = True
        assert queue.clear() == items
        assert len(queue) == 0 and not queue.full and queue.take(0, FREE) is None and not queue.reap(0)
        push(queue, 1)
        assert sizes(queue.take(0, FREE)) == [1]


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
    assert not queue.full and queue.take(0, FREE) is None
    items = push(queue, 1, 5, 2)
    assert queue.full and queue.wake_at(free=True) is None and len(queue) == 3
    items[1].cancelled = True
    first, third = queue.take(0, FREE), queue.take(0, FREE)
    assert first is not None and third is not None
    assert (*first.items, *third.items) == (items[0], items[2])
    assert (first.size, third.size) == (1, 2) and first.reason is CloseReason.INSTANCE
    assert [refused.item for refused in queue.reap(0)] == items[1:2] and not queue.reap(0)
    assert queue.take(0, FREE) is None and not queue.full
