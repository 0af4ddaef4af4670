"""What a batch tells those of its requests that are traced."""

from __future__ import annotations

from types import SimpleNamespace

from yais.inference.batch_record import BatchRecord
from yais.inference.request_trace import BatchMoments, trace_batch
from yais.inference.scheduling.queue import CloseReason


class Told(list):
    """The moments that a request was told."""

    batch = list.append


def job(size, trace=None):
    return SimpleNamespace(size=size, request=SimpleNamespace(trace=trace))


def record(**moments):
    return BatchRecord(CloseReason.FULL, **moments)


def test_only_those_that_are_traced():
    """The time for a token is before the start, although the inputs were gathered before."""
    first, second = Told(), Told()
    jobs = [job(2, first), job(1), job(4, second)]
    trace_batch(jobs, record(input_start=10, token_wait=5, infer_start=20, infer_end=30, output_end=40))
    assert first == second == [BatchMoments(7, 10, 15, 20, 30, 40)]


def test_one_that_failed():
    told = Told()
    trace_batch([job(1, told)], record(input_start=10, infer_start=20))
    (moments,) = told
    assert moments[:5] == (1, 10, 10, 20, 0)
    assert moments.end > 20
