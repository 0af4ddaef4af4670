"""The sequence batcher by example, against Triton's rules (kserve-v2.md, rows 64 to 66)."""

from __future__ import annotations

from typing import Any

import pytest
from sequence_items import MODEL, Asked, queue_of

from yais.errors import DeadlineExceeded, InvalidArgument, Unavailable
from yais.inference.request import SequenceStep
from yais.inference.scheduling.queue import Batch, CloseReason
from yais.inference.scheduling.sequence import (
    SequencePolicy,
    SequenceQueue,
    SequenceStatistics,
    Strategy,
)

OLDEST: dict[str, Any] = {"strategy": Strategy.OLDEST}
BOTH = pytest.mark.parametrize("strategy", list(Strategy))


def push(queue: SequenceQueue[Asked], *steps: str, now: int = 0, **item: Any) -> list[Asked]:
    """Push requests: `a` of sequence "a", `^a` its first, `a$` its last."""
    items = []
    for step in steps:
        item_ = Asked(SequenceStep(step.strip("^$"), "^" in step, "$" in step), queued=now, **item)
        items.append(item_)
        queue.push(item_, now)
    return items


def named(batch: Batch[Asked] | None) -> str | None:
    """Return the ids of a batch, in its order."""
    return None if batch is None else " ".join(str(item.step.id) for item in batch.items if item.step)


def run(queue: SequenceQueue[Asked], now: int = 0, free: tuple[int, ...] = (0,)) -> str | None:
    """Take a batch and let it end at once."""
    batch = queue.take(now, free)
    if batch is not None:
        queue.released(batch.instance, now)
    return named(batch)


def refusals(queue: SequenceQueue[Asked], now: int = 0) -> list[tuple[Asked, type[Exception]]]:
    return [(item, type(error)) for item, error in queue.reap(now)]


# --- What is refused at once --------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("step", "size", "text"),
    [
        (None, 1, "inference request to model 'M' must specify a non-zero or non-empty correlation ID"),
        (SequenceStep(0, start=True), 1, "inference request to model 'M' must specify a non-zero or non-"),
        (SequenceStep("", start=True), 1, "inference request to model 'M' must specify a non-zero or non-"),
        (
            SequenceStep(7),
            1,
            "inference request for sequence 7 to model 'M' must specify the START flag on the first request",
        ),
        (SequenceStep("x", end=True), 1, "inference request for sequence x to model 'M' must specify the ST"),
        (
            SequenceStep(7, start=True),
            2,
            "inference request to model 'M' must specify batch-size 1 due to requirements of sequence ba",
        ),
    ],
)
def test_bad_requests_are_refused(
    strategy: Strategy, step: SequenceStep | None, size: int, text: str
) -> None:
    queue = queue_of(strategy=strategy)
    with pytest.raises(InvalidArgument, match=f"^{text}"):
        queue.push(Asked(step, size=size), 0)
    assert len(queue) == 0 and queue.take(0, (0,)) is None and not queue.reap(0)
    assert queue.statistics().used == 0


def test_numbers_and_texts_are_never_the_same_sequence() -> None:
    queue = queue_of(max_batch=4)
    queue.push(Asked(SequenceStep(1, start=True)), 0)
    with pytest.raises(InvalidArgument, match="START"):
        queue.push(Asked(SequenceStep("1")), 0)
    queue.push(Asked(SequenceStep("1", start=True)), 0)
    assert queue.statistics().used == 2 and named(queue.take(0, (0,))) == "1 1"


@BOTH
def test_after_the_end_there_must_be_a_start(strategy: Strategy) -> None:
    queue = queue_of(strategy=strategy)
    push(queue, "^a", "a$")
    for step in ("a", "a$"):  # a second END, too
        with pytest.raises(InvalidArgument, match=r"sequence a .* START"):
            push(queue, step)
    assert [run(queue), run(queue), run(queue)] == ["a", "a", None]


# --- Slots and the backlog ----------------------------------------------------------------------------


def test_a_sequence_goes_where_most_slots_are_free() -> None:
    queue = queue_of(max_batch=2, instances=2)
    a, b, c, d, e = (push(queue, f"^{name}")[0] for name in "abcde")
    places = [item.sequence.place for item in (a, b, c, d, e) if item.sequence is not None]
    assert places == [(0, 0), (1, 0), (0, 1), (1, 1), None]
    assert queue.statistics() == SequenceStatistics(slots=4, used=4, backlog=1)
    assert repr(queue) == (
        "<SequenceQueue direct, 4 of 4 slots used, 1 sequences in the backlog, 5 requests waiting>"
    )


@BOTH
def test_the_backlog_waits_for_the_end_of_others(strategy: Strategy) -> None:
    queue = queue_of(max_batch=1, strategy=strategy)
    push(queue, "^a", "^b", "^c", "b", "a$", "c$", "b$")
    assert [run(queue) for _ in range(8)] == ["a", "a", "b", "b", "b", "c", "c", None]
    assert queue.statistics() == SequenceStatistics(slots=1, used=0, backlog=0)


@BOTH
def test_the_slot_is_free_when_the_end_is_taken_and_runs_no_more_at_once(strategy: Strategy) -> None:
    queue = queue_of(max_batch=1, strategy=strategy)
    push(queue, "^a$", "^b$")
    assert named(queue.take(0, (0,))) == "a"
    assert queue.statistics() == SequenceStatistics(slots=1, used=1, backlog=0)  # it is b's now
    assert queue.wake_at(free=True) is None and queue.take(0, ()) is None
    queue.released(0, 0)
    assert run(queue) == "b"


def test_a_slot_is_given_out_again() -> None:
    queue = queue_of(max_batch=2)
    for name in "abc":
        (item,) = push(queue, f"^{name}$")
        assert item.sequence is not None and item.sequence.place == (0, 0)
        assert run(queue) == name


def test_an_id_is_free_from_the_push_of_its_end_on() -> None:
    queue = queue_of(max_batch=2)
    (first, _) = push(queue, "^a", "a$")
    (second, _) = push(queue, "^a", "a$")
    assert first.sequence is not second.sequence
    assert second.sequence is not None and second.sequence.place == (0, 1)
    assert [run(queue), run(queue), run(queue)] == ["a a", "a a", None]


def test_an_id_in_the_backlog_can_be_taken_again() -> None:
    queue = queue_of(max_batch=1)
    push(queue, "^x", "^a", "a$", "^a", "a$")
    assert queue.statistics().backlog == 2
    push(queue, "x$")
    assert [run(queue) for _ in range(7)] == ["x", "x", "a", "a", "a", "a", None]


@BOTH
def test_start_begins_a_live_sequence_anew_in_its_place(strategy: Strategy) -> None:
    queue = queue_of(strategy=strategy)
    items = push(queue, "^a", "a", "^a", "a")
    assert len({id(item.sequence) for item in items}) == 1 and queue.statistics().used == 1
    for item in items:
        batch = queue.take(0, (0,))
        assert batch is not None and list(batch.items) == [item]
        assert queue.take(0, ()) is None
        queue.released(0, 0)


# --- The direct strategy ------------------------------------------------------------------------------


def test_rows_are_slots() -> None:
    queue = queue_of(max_batch=4)
    push(queue, "^a", "^b", "^c")
    batch = queue.take(0, (0,))
    assert batch is not None and named(batch) == "a b c"
    assert (batch.size, batch.rows, batch.instance, batch.reason) == (3, None, 0, CloseReason.INSTANCE)
    queue.released(0, 0)
    push(queue, "c", "a", "^d")
    batch = queue.take(0, (0,))
    assert batch is not None and named(batch) == "a c d"  # in the order of rows
    assert (batch.size, batch.rows) == (4, [0, 2, 3])
    queue.released(0, 0)
    push(queue, "b")
    batch = queue.take(0, (0,))
    assert batch is not None and (batch.size, batch.rows) == (2, [1])


def test_a_freed_slot_is_the_next_sequences_row() -> None:
    queue = queue_of(max_batch=2)
    push(queue, "^a$", "^b", "^c", "b")
    assert run(queue) == "a b"
    batch = queue.take(0, (0,))
    assert batch is not None and (named(batch), batch.rows, batch.reason) == ("c b", None, CloseReason.FULL)


def test_other_shapes_wait_for_the_next_batch() -> None:
    queue = queue_of(max_batch=4)
    push(queue, "^a", group="wide", now=1)
    push(queue, "^b", group="slim", now=0)
    push(queue, "^c", group="wide", now=2)
    push(queue, "^d", group="slim", now=3)
    batch = queue.take(5, (0,))
    assert batch is not None and (named(batch), batch.rows) == ("b d", [1, 3])  # the oldest one decides
    assert batch.reason is CloseReason.SHAPE
    queue.released(0, 5)
    batch = queue.take(5, (0,))
    assert batch is not None and (named(batch), batch.rows) == ("a c", [0, 2])


def test_the_oldest_request_decides_which_instance_is_first() -> None:
    queue = queue_of(max_batch=1, instances=3)
    push(queue, "^a", now=5)
    push(queue, "^b", now=3)
    push(queue, "^c", now=4)
    batches = [queue.take(9, (0, 2)), queue.take(9, (0,)), queue.take(9, (1,))]
    assert [(named(batch), batch.instance) for batch in batches if batch] == [("c", 2), ("a", 0), ("b", 1)]


def test_requests_wait_until_enough_slots_have_one() -> None:
    queue = queue_of(max_batch=4, max_delay=100, min_utilization=0.75)
    push(queue, "^a", now=10)
    push(queue, "^b", now=60)
    assert queue.take(60, (0,)) is None and queue.wake_at(free=True) == 110
    assert queue.take(109, (0,)) is None and not queue.full
    push(queue, "^c", now=109)
    batch = queue.take(109, (0,))
    assert batch is not None and (named(batch), batch.reason) == ("a b c", CloseReason.PREFERRED)
    queue.released(0, 120)
    push(queue, "c", now=130)
    assert queue.take(229, (0,)) is None
    batch = queue.take(230, (0,))
    assert batch is not None and (named(batch), batch.rows) == ("c", [2])
    assert batch.reason is CloseReason.DELAY


def test_each_instance_waits_for_itself() -> None:
    queue = queue_of(max_batch=2, instances=2, max_delay=100, min_utilization=1.0)
    push(queue, "^a", now=10)
    push(queue, "^b", now=60)
    assert queue.startable(110, (0, 1)) == [0]
    assert queue.wake_at(free=True) == 110 and queue.wake_at(free=True, lacking=(0,)) == 160
    assert queue.wake_at(free=False, lacking=(0, 1)) is None


@pytest.mark.parametrize("policy", [{"max_delay": 100}, {"min_utilization": 1.0}])
def test_it_takes_both_to_wait(policy: dict[str, Any]) -> None:
    queue = queue_of(max_batch=4, **policy)
    push(queue, "^a")
    assert run(queue) == "a"


def test_a_share_is_not_missed_by_a_rounding_error() -> None:
    # 0.3 as a configuration has it, a float of 32 bits, is a little more.
    queue = queue_of(max_batch=10, max_delay=100, min_utilization=0.30000001192092896)
    push(queue, "^a", "^b")
    assert run(queue) is None
    push(queue, "^c")
    assert run(queue) == "a b c"


def test_full_batches_are_seen() -> None:
    queue = queue_of(max_batch=2, instances=2)
    push(queue, "^a", "^b", "^c")
    assert queue.full  # a and c
    assert queue.take(0, (0,)) is not None and not queue.full
    push(queue, "a", "c")
    assert not queue.full  # they run on an instance that is busy
    queue.released(0, 0)
    assert queue.full


# --- The oldest strategy ------------------------------------------------------------------------------


def test_the_oldest_run_together_without_gaps() -> None:
    queue = queue_of(max_batch=2, candidates=4, **OLDEST)
    for now, name in enumerate("abcd"):
        push(queue, f"^{name}", now=now)
    push(queue, "a", "b", now=9)
    batch = queue.take(10, (0,))
    assert batch is not None and (named(batch), batch.size, batch.rows) == ("a b", 2, None)
    assert batch.reason is CloseReason.FULL
    queue.released(0, 10)
    assert [run(queue, 10), run(queue, 10), run(queue, 10)] == ["c d", "a b", None]


def test_a_sequence_is_in_a_batch_once() -> None:
    queue = queue_of(max_batch=4, **OLDEST)
    push(queue, "^a", "a", "a", "^b")
    assert [run(queue), run(queue), run(queue)] == ["a b", "a", "a"]


def test_candidates_bound_the_sequences_of_an_instance() -> None:
    queue = queue_of(max_batch=4, candidates=2, **OLDEST)
    push(queue, "^a", "^b$", "^c")
    assert queue.statistics() == SequenceStatistics(slots=2, used=2, backlog=1)
    assert [run(queue), run(queue)] == ["a b", "c"]


@pytest.mark.parametrize(
    ("waiting", "names", "reason"),
    [
        ("abc", None, None),
        ("abcd", "a b c d", CloseReason.PREFERRED),
        ("abcdef", "a b c d", CloseReason.PREFERRED),
        ("abcdefgh", "a b c d", CloseReason.PREFERRED),
    ],
)
def test_preferred_sizes_start_at_once(waiting: str, names: str | None, reason: CloseReason | None) -> None:
    queue = queue_of(max_batch=8, preferred=(4,), max_delay=100, **OLDEST)
    push(queue, *(f"^{name}" for name in waiting))
    batch = queue.take(99, (0,))
    assert (named(batch), batch and batch.reason) == (names, reason)
    if batch is None:
        assert queue.wake_at(free=True) == 100
        batch = queue.take(100, (0,))
        assert batch is not None and (named(batch), batch.reason) == ("a b c", CloseReason.DELAY)


def test_another_shape_closes_a_batch_of_the_oldest() -> None:
    queue = queue_of(max_batch=8, max_delay=100, **OLDEST)
    push(queue, "^a", now=0)
    push(queue, "^b", now=1, group="other")
    push(queue, "^c", now=2)
    batch = queue.take(2, (0,))
    assert batch is not None and (named(batch), batch.reason) == ("a", CloseReason.SHAPE)


# --- Idle sequences -----------------------------------------------------------------------------------


@BOTH
def test_an_idle_sequence_is_given_up(strategy: Strategy) -> None:
    queue = queue_of(max_batch=1, max_idle=100, strategy=strategy)
    push(queue, "^a", "^b", "b", now=0)
    assert named(queue.take(10, (0,))) == "a"
    assert queue.take(400, ()) is None and queue.statistics().backlog == 1  # what runs is not idle
    queue.released(0, 500)  # the time counts from here
    assert queue.take(599, (0,)) is None and queue.wake_at(free=True) == 600
    assert named(queue.take(600, (0,))) == "b"
    with pytest.raises(InvalidArgument, match=r"sequence a .* START"):
        push(queue, "a", now=600)


def test_idle_time_counts_whoever_looks_first() -> None:
    queue = queue_of(max_idle=100)
    push(queue, "^a", now=0)
    assert run(queue, 0) == "a"
    with pytest.raises(InvalidArgument, match="START"):
        push(queue, "a", now=100)
    assert queue.statistics().used == 0


def test_a_request_in_time_keeps_a_sequence() -> None:
    queue = queue_of(max_idle=100)
    push(queue, "^a", now=0)
    assert run(queue, 0) == "a"
    push(queue, "a", now=99)
    assert queue.take(1000, ()) is None
    assert run(queue, 1000) == "a"  # what waits is not idle, however long
    push(queue, "a$", now=1099)
    assert run(queue, 1099) == "a"


def test_the_backlog_is_never_idle() -> None:
    queue = queue_of(max_batch=1, max_idle=100)
    push(queue, "^a", "^b", now=0)
    assert named(queue.take(0, (0,))) == "a"
    assert not queue.reap(10_000)
    push(queue, "a$", "b", now=10_000)
    queue.released(0, 10_000)
    assert [run(queue, 10_000) for _ in range(3)] == ["a", "b", "b"]


def test_a_timeout_holds_in_the_backlog() -> None:
    queue = queue_of(max_batch=1)
    push(queue, "^a", now=0, timeout=5)
    assert named(queue.take(0, (0,))) == "a"
    first, second = push(queue, "^b", now=10, timeout=100) + push(queue, "b", now=20, timeout=50)
    push(queue, "^c", now=20)
    assert queue.wake_at(free=False) == 70 and not queue.reap(69)
    refused = queue.reap(70)
    assert [item for item, _ in refused] == [first, second]
    assert all(type(error) is Unavailable for _, error in refused)
    assert str(refused[0].error) == "timeout of the corresponding sequence has been expired"
    assert queue.wake_at(free=False) is None and queue.statistics().backlog == 1
    with pytest.raises(InvalidArgument, match="START"):
        push(queue, "b", now=70)


def test_a_timeout_does_not_hold_with_a_slot() -> None:
    queue = queue_of(max_batch=1)
    push(queue, "^a$", now=0)
    push(queue, "^b", now=0, timeout=50)
    assert run(queue, 10) == "a" and queue.wake_at(free=False) is None
    assert run(queue, 1000) == "b" and not queue.reap(1000)


# --- Requests that nobody waits for -------------------------------------------------------------------


@BOTH
def test_a_missed_step_ends_a_sequence(strategy: Strategy) -> None:
    queue = queue_of(strategy=strategy)
    first, second, third, last = push(queue, "^a", "a", "a", "a$")
    push(queue, "^b")
    assert run(queue) == "a b"
    second.cancelled = last.cancelled = True
    assert run(queue) is None
    refused = queue.reap(0)
    assert [(item, type(error)) for item, error in refused] == [
        (second, DeadlineExceeded),
        (third, Unavailable),
        (last, DeadlineExceeded),
    ]
    assert str(refused[1].error) == (
        f"sequence a of model '{MODEL}' has ended: an earlier request of it was cancelled, or its deadline "
        "passed, before it could run"
    )
    assert queue.statistics().used == 1 and len(queue) == 0
    with pytest.raises(InvalidArgument, match=r"sequence a .* START"):
        push(queue, "a")
    assert first.sequence is not None and first.sequence.place is None


@BOTH
def test_a_missed_step_leaves_the_sequence_after_the_next_start(strategy: Strategy) -> None:
    queue = queue_of(strategy=strategy)
    _, second, third, *_ = push(queue, "^a", "a", "a", "^a", "a")
    assert run(queue) == "a"
    second.cancelled = True
    assert run(queue) == "a"
    assert refusals(queue) == [(second, DeadlineExceeded), (third, Unavailable)]
    push(queue, "a$")
    assert [run(queue), run(queue), run(queue)] == ["a", "a", None]


def test_a_missed_start_ends_what_it_began() -> None:
    queue = queue_of()
    _, start, then, again, goes_on = push(queue, "^a", "^a", "a", "^a", "a")
    assert run(queue) == "a"
    start.cancelled = again.cancelled = True
    assert run(queue) is None
    assert refusals(queue) == [
        (start, DeadlineExceeded),
        (then, Unavailable),
        (again, DeadlineExceeded),
        (goes_on, Unavailable),
    ]
    push(queue, "^a")
    assert run(queue) == "a"


def test_a_request_may_die_until_its_turn() -> None:
    queue = queue_of()
    _, second = push(queue, "^a") + push(queue, "a", deadline=50)
    assert named(queue.take(0, (0,))) == "a"
    assert queue.take(100, ()) is None and not queue.reap(100)
    queue.released(0, 100)
    assert run(queue, 100) is None and refusals(queue, 100) == [(second, DeadlineExceeded)]


def test_the_dead_do_not_follow_the_dead() -> None:
    queue = queue_of(max_batch=1)
    first, second, third = push(queue, "^a", "^b", "^c")
    first.cancelled = second.cancelled = True
    assert named(queue.take(0, (0,))) == "c"
    assert [item for item, _ in queue.reap(0)] == [first, second] and third.sequence is not None


def test_a_sequence_may_die_in_the_backlog() -> None:
    queue = queue_of(max_batch=1)
    push(queue, "^a$")
    dead, rest = push(queue, "^b", "b")
    push(queue, "^c")
    dead.cancelled = True
    assert [run(queue), run(queue), run(queue)] == ["a", "c", None]
    assert refusals(queue) == [(dead, DeadlineExceeded), (rest, Unavailable)]
    push(queue, "^b")
    assert queue.statistics() == SequenceStatistics(slots=1, used=1, backlog=1)


# --- Closing ------------------------------------------------------------------------------------------


def test_in_a_hurry_nothing_is_waited_for() -> None:
    queue = queue_of(max_batch=1, max_idle=10**12)
    push(queue, "^a", "^b", "^c")
    queue.hurry()
    assert [run(queue), run(queue), run(queue)] == ["a", "b", "c"]  # no request of theirs can come
    for policy in ({"min_utilization": 1.0}, OLDEST):
        queue = queue_of(max_batch=4, max_delay=10**12, **policy)
        push(queue, "^a")
        assert run(queue) is None
        queue.hurry()
        assert run(queue) == "a"


@BOTH
def test_clear_takes_out_everything(strategy: Strategy) -> None:
    queue = queue_of(max_batch=1, instances=2, strategy=strategy)
    a, b, c, d = (push(queue, f"^{name}", now=now)[0] for now, name in enumerate("abcd"))
    assert named(queue.take(5, (0,))) == "a"
    c.cancelled = True
    (more,) = push(queue, "a", now=6)
    assert queue.clear() == [b, c, d, more]
    assert len(queue) == 0 and not queue.full and not queue.reap(6)
    assert queue.take(6, (1,)) is None and queue.statistics().used == 0
    queue.released(0, 7)
    assert queue.take(7, (0, 1)) is None and queue.wake_at(free=True) is None
    push(queue, "^a", "^b", now=8)
    assert {run(queue, 8, (0, 1)), run(queue, 8, (0, 1))} == {"a", "b"}
    assert a.sequence is not None and a.sequence.place is None


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ({"max_batch": -1}, "got max_batch=-1, expected at least 0"),
        ({"instances": 0}, "got instances=0, expected at least 1"),
        ({"max_idle": 0}, "got max_idle=0, expected at least 1"),
        ({"max_delay": -1}, "got max_delay=-1, expected at least 0"),
        ({"candidates": -1}, "got candidates=-1, expected at least 0"),
        ({"min_utilization": 1.5}, "got min_utilization=1.5, expected 0 to 1"),
        ({"preferred": (4, 9)}, "got a preferred batch size of 9, expected 1 to 8"),
    ],
)
def test_policies_are_checked(policy: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        SequencePolicy(**{"max_batch": 8, "instances": 1, **policy})


def test_slots_of_a_policy() -> None:
    assert SequencePolicy(0, 1).slots == 1 and SequencePolicy(4, 1, candidates=9).slots == 4
    assert SequencePolicy(4, 1, **OLDEST).slots == 4
    assert SequencePolicy(4, 1, candidates=9, **OLDEST).slots == 9
