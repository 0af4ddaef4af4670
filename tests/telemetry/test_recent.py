"""The last observations: no more, no fewer, and none that is too old."""

from __future__ import annotations

import copy
from collections import deque

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.telemetry.recent import Recent

SIZE = 4096


@settings(deadline=None)  # on a busy machine
@given(st.lists(st.integers(0, 3000), max_size=8), st.integers(0, 12_000))
def test_like_a_deque(chunks: list[int], since: int) -> None:
    recent, kept, count = Recent(2), deque[tuple[int, int]](maxlen=SIZE), 0
    for chunk in chunks:
        rows = [(number, -number) for number in range(count, count + chunk)]
        recent.observe(np.array(rows, np.int64).reshape(-1, 2))
        kept.extend(rows)
        count += chunk
    expected = sorted(row for row in kept if row[0] >= since)
    assert sorted(map(tuple, recent.since(since).tolist())) == expected


def test_more_at_once_than_it_keeps() -> None:
    recent = Recent(1)
    recent.observe(np.arange(3 * SIZE + 7, dtype=np.int64).reshape(-1, 1))
    assert sorted(recent.since(0)[:, 0].tolist()) == list(range(2 * SIZE + 7, 3 * SIZE + 7))


def test_a_copy_stands_by_itself() -> None:
    recent = Recent(1)
    recent.observe(np.array([[1]], np.int64))
    copied = copy.deepcopy(recent)
    recent.observe(np.array([[2]], np.int64))
    assert copied.since(0).tolist() == [[1]] and recent.since(0).tolist() == [[1], [2]]
