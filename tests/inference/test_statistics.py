"""Counting: the invariants that Triton's clients rely on (kserve-v2.md, section 1.14)."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from managing import eventually
from many_threads import in_threads
from modelling import SOON, check_invariants, doubling, request, stopped

from yais.core.clock import monotonic
from yais.inference.batch_record import BatchRecord
from yais.inference.counts import Counts, Duration
from yais.inference.failure import FailureReason
from yais.inference.scheduling.queue import CloseReason
from yais.inference.statistics import ModelStatistics

MakeModel = Any


def record(
    size: int,
    received: list[int],
    queued: list[int],
    times: tuple[int, int, int, int],
    reason: CloseReason = CloseReason.FULL,
) -> BatchRecord:
    input_start, infer_start, infer_end, output_end = times
    return BatchRecord(
        reason,
        input_start=input_start,
        infer_start=infer_start,
        infer_end=infer_end,
        output_end=output_end,
        size=size,
        received=received,
        queued=queued,
        waited=[7] * len(received),
    )


def test_one_batch() -> None:
    statistics = ModelStatistics()
    base = monotonic()
    at = (base + 100, base + 130, base + 200, base + 210)
    statistics.record_batch(record(5, [base, base + 10], [base + 5, base + 20], at))
    counts = statistics.snapshot()
    assert (counts.inferences, counts.executions) == (5, 1)
    assert counts.success == Duration(2, 210 + 200)
    assert counts.queue == Duration(2, 95 + 80)
    # Everybody in a batch is charged all of its time.
    assert counts.compute_input == Duration(2, 2 * 30)
    assert counts.compute_infer == Duration(2, 2 * 70)
    assert counts.compute_output == Duration(2, 2 * 10)
    assert set(counts.batches) == {5}
    assert counts.batches[5].compute_input == Duration(1, 30)
    assert counts.batches[5].compute_infer == Duration(1, 70)
    assert counts.batches[5].compute_output == Duration(1, 10)
    assert counts.closed == {CloseReason.FULL: 1}
    assert counts.fail == Duration()
    check_invariants(counts)


def test_nothing() -> None:
    counts = ModelStatistics().snapshot()
    assert counts.last_inference == 0 and counts.executions == 0
    check_invariants(counts)


def test_the_last_inference_is_told_by_the_clock_of_clients() -> None:
    statistics = ModelStatistics()
    before = time.time_ns() // 1_000_000
    now = monotonic()
    statistics.record_batch(record(1, [now], [now], (now, now, now, now)))
    assert before - 1 <= statistics.snapshot().last_inference <= time.time_ns() // 1_000_000 + 1
    first = statistics.snapshot().last_inference
    statistics.record_failure(5, FailureReason.OTHER)
    assert statistics.snapshot().last_inference == first


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(1, 300), min_size=1, max_size=5),
            st.lists(st.integers(0, 10**10), min_size=4, max_size=4),
            st.sampled_from(CloseReason),
        ),
        max_size=20,
    ),
    st.integers(1, 30),
)
def test_any_batches(batches: list[tuple[list[int], list[int], CloseReason]], repeated: int) -> None:
    statistics = ModelStatistics()
    for requests, steps, reason in batches * repeated:
        start, infer, end, done = (sum(steps[: count + 1]) for count in range(4))
        moments = [0] * len(requests)
        statistics.record_batch(record(sum(requests), moments, moments, (start, infer, end, done), reason))
    counts = statistics.snapshot()
    check_invariants(counts)
    assert counts.executions == repeated * len(batches)
    assert counts.inferences == repeated * sum(sum(requests) for requests, _, _ in batches)
    assert counts.success.ns == repeated * sum(len(requests) * sum(steps) for requests, steps, _ in batches)


REASONS = st.sampled_from(FailureReason)
EVENTS = st.one_of(
    st.tuples(st.just("batch"), st.lists(st.integers(1, 50), min_size=1, max_size=4)),
    st.tuples(st.just("hit"), st.integers(0, 10**6)),
    st.tuples(st.just("miss"), st.integers(0, 10**6)),
    st.tuples(st.just("failure"), REASONS),
    st.tuples(st.just("look"), st.none()),
)


@settings(deadline=None)  # on a busy machine
@given(st.lists(EVENTS, max_size=40), st.integers(1, 20))
def test_any_mix_of_outcomes(events: list[tuple[str, Any]], repeated: int) -> None:
    """Successes, failures, cancelled requests, hits and misses, looked at whenever."""
    statistics = ModelStatistics()
    expected: Counter[str] = Counter()
    reasons: Counter[FailureReason] = Counter()
    for kind, what in events * repeated:
        expected[kind] += 1
        now = monotonic()
        if kind == "batch":
            moments = [now - 100] * len(what)
            statistics.record_batch(record(sum(what), moments, moments, (now - 90, now - 50, now - 20, now)))
            expected["requests"] += len(what)
            expected["items"] += sum(what)
        elif kind == "hit":
            statistics.record_hit(now - what, what)
            expected["lookups"] += what
        elif kind == "miss":
            statistics.record_miss(what)
            expected["repairs"] += what
        elif kind == "failure":
            statistics.record_failure(3, what)
            reasons[what] += 1
        else:
            assert_any_moment(statistics.snapshot())
    counts = statistics.snapshot()
    assert_any_moment(counts)
    assert counts.compute_infer == Duration(expected["requests"], 30 * expected["requests"])
    assert counts.cache_hit == Duration(expected["hit"], expected["lookups"])
    assert counts.cache_miss == Duration(expected["miss"], expected["repairs"])
    assert counts.fail == Duration(expected["failure"], 3 * expected["failure"])
    assert counts.failures == reasons
    assert (counts.inferences, counts.executions) == (expected["items"], expected["batch"])
    assert sum(counts.request_seconds.counts) == counts.success.count
    assert (counts.last_inference > 0) == (counts.success.count > 0)
    rows = [len(recent.since(0)) for recent in (counts.recent, counts.recent_hits, counts.recent_misses)]
    assert rows == [min(expected[kind], 4096) for kind in ("requests", "hit", "miss")]


def assert_any_moment(counts: Counts) -> None:
    computed = [counts.compute_input.count, counts.compute_infer.count, counts.compute_output.count]
    assert computed == [counts.success.count - counts.cache_hit.count] * 3
    assert counts.queue.count == counts.success.count
    assert counts.fail.count == counts.failures.total()
    parts = (
        counts.queue,
        counts.compute_input,
        counts.compute_infer,
        counts.compute_output,
        counts.cache_hit,
    )
    assert sum(part.ns for part in parts) <= counts.success.ns


def test_what_the_last_requests_took() -> None:
    statistics = ModelStatistics()
    now = monotonic()
    statistics.record_batch(record(1, [now - 10], [now - 9], (now - 7, now - 4, now - 1, now)))
    statistics.record_hit(now - 5, 2)
    statistics.record_miss(6)
    counts = statistics.snapshot()
    assert counts.recent.since(now).tolist() == [[now, 10, 2, 3, 3, 1]]
    assert not len(counts.recent.since(now + 1))
    ((answered, *took),) = counts.recent_hits.since(now).tolist()
    assert took == [answered - now + 5, answered - now + 3, 2]
    ((_, took),) = counts.recent_misses.since(now).tolist()
    assert took == 6


def test_a_snapshot_stands_by_itself() -> None:
    statistics = ModelStatistics()
    statistics.record_batch(record(2, [0], [0], (1, 2, 3, 4)))
    early = statistics.snapshot()
    kept = repr(dataclasses.asdict(early)["success"]), dict(early.closed), list(early.batch_size.counts)
    for _ in range(300):
        statistics.record_batch(record(2, [0], [0], (1, 2, 3, 4)))
    statistics.record_failure(1, FailureReason.BACKEND)
    assert kept == (
        repr(dataclasses.asdict(early)["success"]),
        dict(early.closed),
        list(early.batch_size.counts),
    )
    early.batches[2].compute_infer.add(10**9)
    early.batch_size.observe([1] * 1000)
    early.closed[CloseReason.DELAY] += 1
    late = statistics.snapshot()
    check_invariants(late)
    assert late.executions == 301 and late.fail == Duration(1, 1)


def test_threads_count_together() -> None:
    statistics = ModelStatistics()

    def work(index: int) -> None:
        for number in range(200):
            statistics.record_batch(record(2, [0, 0], [0, 0], (1, 2, 3, 4)))
            statistics.record_failure(1, FailureReason.REJECTED)
            if number % 50 == index:
                check_invariants(statistics.snapshot())

    in_threads(4, work)
    counts = statistics.snapshot()
    check_invariants(counts)
    assert (counts.executions, counts.success.count, counts.fail.count) == (800, 1600, 800)


# --- As models count ----------------------------------------------------------------------------------


def test_a_model_counts_before_it_answers(make_model: MakeModel) -> None:
    model = make_model(doubling())
    seen: list[int] = []
    for number in range(5):
        future = model.submit(request(batch=2))
        future.add_done_callback(lambda _: seen.append(model.counts().success.count))
        assert future.get(SOON)
        assert model.counts().success.count == number + 1
        eventually(lambda number=number: len(seen) > number)  # type: ignore[misc]
    counts = model.counts()
    assert seen == [1, 2, 3, 4, 5]
    check_invariants(counts)
    assert counts.inferences == 10 and counts.closed == {CloseReason.INSTANCE: 5}


def test_a_model_counts_batches_and_failures(make_model: MakeModel) -> None:
    engine = doubling()
    model = make_model(engine)
    with stopped(engine, model):
        futures = [model.submit(request(batch=size)) for size in (3, 5, 2)]
        assert model.submit(request(batch=9)).exception(0)
    assert all(future.get(SOON) for future in futures)
    engine.error = ValueError("no")
    assert model.submit(request()).exception(SOON)
    counts = model.counts()
    check_invariants(counts)
    assert engine.batches == [1, 8, 2, 1]
    assert {size: batch.compute_infer.count for size, batch in counts.batches.items()} == {1: 1, 2: 1, 8: 1}
    assert (counts.inferences, counts.executions) == (11, 3)
    assert (counts.success.count, counts.fail.count) == (4, 2)
    assert counts.failures == {FailureReason.OTHER: 1, FailureReason.BACKEND: 1}
    assert counts.closed == {CloseReason.INSTANCE: 2, CloseReason.FULL: 1}
    assert counts.success.ns >= counts.queue.ns + counts.compute_infer.ns > 0
