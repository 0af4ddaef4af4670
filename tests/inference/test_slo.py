"""The SLO batcher by example."""

from __future__ import annotations

from typing import Any

import pytest
from queue_items import Waiting, sizes

from yais.errors import DeadlineExceeded, ResourceExhausted
from yais.inference.batch_times import BatchTimes
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.queue import Batch, CloseReason
from yais.inference.scheduling.slo import SloPolicy, SloQueue

FREE = (0,)


def exact(alpha: int = 20, beta: int = 10, most: int = 8) -> BatchTimes:
    """Return T(b) = alpha + beta b."""
    return BatchTimes((size, alpha + beta * size) for size in range(1, most + 1))


def slo(objective: int = 200, times: BatchTimes | None = None, **policy: Any) -> SloQueue[Waiting]:
    """Return a queue with T(b) = 20 + 10 b, b <= 8: T(8) = 100."""
    return SloQueue(SloPolicy(BatchingPolicy(8), objective, **policy), times or exact())


def push(queue: SloQueue[Waiting], now: int, *of_size: int, **item: Any) -> list[Waiting]:
    items = [Waiting(size, queued=now, **item) for size in of_size or (1,)]
    for each in items:
        queue.push(each, now)
    return items


def closed(batch: Batch[Waiting] | None) -> tuple[list[int] | None, CloseReason | None]:
    return sizes(batch), batch and batch.reason


def test_a_free_instance_waits_for_nobody() -> None:
    queue = slo()
    (item,) = push(queue, 0)
    batch = queue.take(0, (2, 5))
    assert batch is not None and list(batch.items) == [item] and batch.instance == 5
    assert batch.reason is CloseReason.INSTANCE and len(queue) == 0 and queue.wake_at(free=False) is None
    assert queue.take(0, FREE) is None and queue.take(0, ()) is None and not queue.reap(0)


def test_what_waits_runs_together() -> None:
    queue = slo()
    push(queue, 0)
    queue.take(0, FREE)
    push(queue, 5, 1, 2)
    push(queue, 9)
    assert not queue.full and queue.take(9, ()) is None
    assert closed(queue.take(30, FREE)) == ([1, 2, 1], CloseReason.INSTANCE)


def test_a_batch_is_full() -> None:
    queue = slo(1000)
    push(queue, 0, 3, 4, 2, 8)
    assert queue.full
    assert closed(queue.take(0, FREE)) == ([3, 4], CloseReason.FULL)
    assert closed(queue.take(0, FREE)) == ([2], CloseReason.FULL)
    assert closed(queue.take(0, FREE)) == ([8], CloseReason.FULL)


def test_shapes_do_not_mix() -> None:
    queue = slo(1000)
    push(queue, 0, 1, 1)
    push(queue, 0, group="other")
    assert closed(queue.take(0, FREE)) == ([1, 1], CloseReason.SHAPE)
    assert closed(queue.take(0, FREE)) == ([1], CloseReason.INSTANCE)


def test_the_oldest_says_how_large_a_batch_may_be() -> None:
    for now, expected in ((100, [1, 1, 1, 1, 1, 1]), (140, [1, 1, 1, 1]), (141, [1, 1, 1])):
        queue = slo(200)
        push(queue, 0, *[1] * 6)
        batch = queue.take(now, FREE)
        assert sizes(batch) == expected and batch is not None
        assert now + 20 + 10 * batch.size <= 200
        assert batch.reason is (CloseReason.INSTANCE if len(expected) == 6 else CloseReason.OBJECTIVE)


def test_what_leaves_room_for_less_than_half_makes_way() -> None:
    queue = slo(200)
    old = push(queue, 0, 1)
    young = push(queue, 60, *[1] * 5)
    batch = queue.take(160, FREE)  # room for two beside the old one, for eight without it
    assert batch is not None and list(batch.items) == young
    ((item, error),) = queue.reap(160)
    assert [item] == old and isinstance(error, ResourceExhausted)
    assert len(queue) == 0


def test_twice_as_large_is_not_enough_to_make_way() -> None:
    for young, oldest_runs in ((3, True), (4, True), (5, False)):
        queue = slo(200)
        push(queue, 0, 1)
        push(queue, 60, *[1] * young)  # with the oldest, two of them all run in time
        batch = queue.take(160, FREE)
        assert sizes(batch) == ([1, 1] if oldest_runs else [1] * young)
    queue = slo(200)
    push(queue, 0, 3)
    push(queue, 60, 4)  # room for eight, but it is only four
    assert sizes(queue.take(150, FREE)) == [3]


def test_nobody_makes_way_in_vain() -> None:
    queue = slo(200)
    push(queue, 0, *[1] * 5)
    assert closed(queue.take(170, FREE)) == ([1], CloseReason.OBJECTIVE)  # all of them are as old
    assert len(queue) == 4
    assert len(queue.reap(170)) == 4  # the instance is busy until 200


def test_late_items_are_refused_while_they_wait() -> None:
    queue = slo(100)
    push(queue, 0)
    queue.take(0, FREE)  # until 30
    (item,) = push(queue, 10)
    assert not queue.reap(70)  # 70 + T(1) = 100 <= 110
    assert queue.wake_at(free=False) == queue.wake_at(free=True) == 81
    assert not queue.reap(80)
    ((refused, error),) = queue.reap(81)
    assert refused is item and isinstance(error, ResourceExhausted)
    assert str(error) == (
        "the latency objective of 0.0001 ms cannot be met: an answer is predicted after 0.000101 ms"
    )
    assert len(queue) == 0 and queue.wake_at(free=False) is None


def test_late_items_are_refused_when_they_come() -> None:
    queue = slo(150)  # what is kept up under load is T(8) = 100
    push(queue, 0, 8)
    queue.take(0, FREE)  # until 100
    with pytest.raises(ResourceExhausted, match=r"^the latency objective of 0\.00015 ms cannot be met"):
        push(queue, 0, 4)  # T(4) = 60
    push(queue, 0, 3)
    with pytest.raises(ResourceExhausted):
        push(queue, 10)  # it would not fit in, and behind there is no room for a whole one
    assert len(queue) == 1
    assert not queue.reap(99)


def test_what_opens_a_batch_behind_another_leaves_room_for_a_whole_one() -> None:
    for objective, fits in ((299, False), (300, True)):
        queue = slo(objective)
        push(queue, 0, 8)
        queue.take(0, FREE)  # until 100
        push(queue, 0, 8)  # until 200
        if fits:
            push(queue, 0)  # room until 300
            push(queue, 0, 7)  # joins
        with pytest.raises(ResourceExhausted):
            push(queue, 0)


def test_what_waits_is_packed_in_order() -> None:
    # The instance is free at 100, then T(8) = 100, T(7) = 90, T(4) = 60 for what waits.
    for objective, waiting, size, fits in (
        (389, [8, 7], 2, False),  # beside seven there is no room for two: from 300 on
        (400, [8, 7], 2, True),
        (250, [4], 5, False),  # 100 + 60, and a whole one
        (260, [4], 5, True),
    ):
        queue = slo(objective)
        push(queue, 0, 8)
        queue.take(0, FREE)
        push(queue, 0, *waiting)
        if fits:
            push(queue, 0, size)
        else:
            with pytest.raises(ResourceExhausted):
                push(queue, 0, size)


def test_several_instances_share_what_waits() -> None:
    queue = slo(200, instances=2)
    push(queue, 0, 8)
    assert queue.take(0, (0, 1)) is not None
    push(queue, 50, 8)
    batch = queue.take(50, (0,))
    assert batch is not None and batch.instance == 0
    push(queue, 60, 8)  # from 100 to 200
    push(queue, 60, 8)  # from 150 to 250
    with pytest.raises(ResourceExhausted):
        push(queue, 60, 8)  # from 200 to 300: too late for 60 + 200
    queue.released(1, 100)
    assert sizes(queue.take(100, (1,))) == [8]
    push(queue, 100, 8)  # from 200 to 300, behind the one at 150


def test_an_instance_that_is_late_is_expected_now() -> None:
    queue = slo(200)
    push(queue, 0)
    queue.take(0, FREE)  # until 30, as predicted
    push(queue, 100, 8)
    push(queue, 100)  # behind it, with room for a whole one: 100 + 100 + 100
    with pytest.raises(ResourceExhausted):
        push(queue, 101, 8)


def test_waiting_for_others_ends_with_the_delay() -> None:
    queue = slo(200, max_delay=40)
    push(queue, 0)
    assert queue.take(0, FREE) is None and queue.wake_at(free=True) == 40
    push(queue, 20)
    assert queue.take(39, FREE) is None
    assert closed(queue.take(40, FREE)) == ([1, 1], CloseReason.DELAY)
    push(queue, 50)
    push(queue, 50, group="other")
    assert closed(queue.take(50, FREE)) == ([1], CloseReason.SHAPE)
    queue.hurry()
    assert sizes(queue.take(50, FREE)) == [1]


def test_waiting_for_others_ends_with_the_objective() -> None:
    queue = slo(100, max_delay=90)
    push(queue, 0)
    assert queue.wake_at(free=True) == 61  # 60 + T(2) = 100
    assert queue.take(60, FREE) is None
    assert sizes(queue.take(61, FREE)) == [1]
    push(queue, 100, 7, 1)
    assert closed(queue.take(100, FREE)) == ([7, 1], CloseReason.FULL)


def test_the_dead_do_not_run() -> None:
    queue = slo()
    first, second, third, fourth = push(queue, 0, 1, 1, 3, 1)
    first.cancelled = third.cancelled = True
    fourth.deadline = 5
    batch = queue.take(5, FREE)
    assert batch is not None and list(batch.items) == [second] and len(queue) == 0
    refused = queue.reap(5)
    assert [item for item, _ in refused] == [first, third, fourth] and not queue.reap(5)
    assert all(isinstance(error, DeadlineExceeded) for _, error in refused)
    push(queue, 5, 5)
    assert not queue.full, "nobody counts the dead"
    queue.clear()
    (dead,) = push(queue, 5)
    dead.cancelled = True
    assert [item for item, _ in queue.reap(5)] == [dead]


def test_clear_takes_out_everything() -> None:
    queue = slo()
    items = push(queue, 0, 1, 1, 5)
    items[0].cancelled = True
    assert queue.clear() == items
    assert len(queue) == 0 and queue.take(0, FREE) is None and not queue.reap(0)
    push(queue, 0, 8)
    assert sizes(queue.take(0, FREE)) == [8]


def test_until_times_are_known_it_is_a_dynamic_batcher() -> None:
    policy = SloPolicy(BatchingPolicy(8, max_delay=50), 100)
    queue: SloQueue[Waiting] = SloQueue(policy)
    assert repr(queue) == "<SloQueue 0 waiting, 0.0001 ms: batches not measured>"
    items = push(queue, 0, 1, 1)
    assert queue.take(49, FREE) is None and queue.wake_at(free=True) == 50 and len(queue) == 2
    assert not queue.full and not queue.reap(0)
    batch = queue.take(50, FREE)
    assert batch is not None and list(batch.items) == items and batch.reason is CloseReason.DELAY
    queue.released(0, 10_000)
    waiting = push(queue, 60, 1, 1)
    queue.measured(exact())
    assert len(queue) == 2 and queue.wake_at(free=False) == 131
    batch = queue.take(60, FREE)
    assert batch is not None and list(batch.items) == waiting
    assert repr(queue) == (
        "<SloQueue 0 waiting, 0.0001 ms: <Forecast 1 of 1 instances busy, "
        "<BatchTimes 2e-05 ms + 1e-05 ms an item, times 1.00 at p90>>>"
    )


def test_hurry_holds_before_the_times_are_known() -> None:
    queue: SloQueue[Waiting] = SloQueue(SloPolicy(BatchingPolicy(8, max_delay=50), 100))
    push(queue, 0)
    queue.hurry()
    assert sizes(queue.take(0, FREE)) == [1]


def test_how_long_batches_take_corrects_the_prediction() -> None:
    queue = slo(100)
    for start in range(0, 80_000, 1000):
        push(queue, start)
        assert queue.take(start, FREE) is not None
        queue.released(0, start + 60)  # twice T(1)
    push(queue, 100_000, 3)  # now 2 T(3) = 100
    with pytest.raises(ResourceExhausted):
        push(queue, 100_000, 4)
    queue.released(0, 100_001)  # nothing ran there


def test_an_idle_model_tries_whether_it_is_still_as_slow() -> None:
    queue = slo(100, exact(alpha=200))

    def refuses(now: int) -> bool:
        try:
            push(queue, now)
        except ResourceExhausted:
            return True
        return False

    tries = []
    for start in range(0, 1_000_000, 1000):
        if refuses(start):
            continue
        tries.append(start // 1000 + 1)
        if len(tries) < 50:
            assert refuses(start), "it is no longer idle"
            assert not queue.reap(start)
        assert sizes(queue.take(start, FREE)) == [1]
        assert len(tries) > 50 or refuses(start), "it is busy"
        queue.released(0, start + 30)
    assert tries[:20] == list(range(8, 168, 8)), "one in eight"
    assert tries[-100:] == list(range(901, 1001)), "it has learned that it became faster"


def test_a_try_may_be_cancelled() -> None:
    queue = slo(100, exact(alpha=200))
    for _ in range(7):
        with pytest.raises(ResourceExhausted):
            push(queue, 0)
    (item,) = push(queue, 0)
    item.cancelled = True
    assert queue.take(0, FREE) is None and [refused.item for refused in queue.reap(0)] == [item]


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ({"objective": 0}, "got objective=0 ns, expected more than 0"),
        ({"objective": 1, "percentile": 0.5}, "got percentile=0.5, expected 1 to 100"),
        ({"objective": 1, "percentile": 101}, "got percentile=101, expected 1 to 100"),
        ({"objective": 1, "max_delay": -1}, "got max_delay=-1 ns, expected 0 or more"),
    ],
)
def test_policies_are_checked(policy: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        SloPolicy(BatchingPolicy(8), **policy)
