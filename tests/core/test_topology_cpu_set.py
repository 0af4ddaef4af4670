"""Sets of CPUs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.core.cpu_set import CpuSet

numbers = st.sets(st.integers(min_value=0, max_value=200))


@given(numbers)
def test_text_goes_both_ways(cpus: set[int]) -> None:
    there = CpuSet(cpus)
    assert CpuSet(str(there)) == there
    assert repr(there) == f"CpuSet('{there}')"
    assert list(there) == sorted(cpus)


@given(numbers, numbers)
def test_algebra_is_that_of_sets(left: set[int], right: set[int]) -> None:
    a, b = CpuSet(left), CpuSet(right)
    assert set(a | b) == left | right
    assert set(a & b) == left & right
    assert set(a - b) == left - right
    assert len(a) == len(left)
    assert (a == b) == (left == right)
    assert all((cpu in a) == (cpu in left) for cpu in range(201))
    assert hash(a) == hash(CpuSet(sorted(left, reverse=True)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-3,8", "0-3,8"),
        ("8, 0-1,2\n", "0-2,8"),
        ("5,5,4-5", "4-5"),
        ("7-7", "7"),
        ("0,2,4", "0,2,4"),
        ("", ""),
    ],
)
def test_text_is_normalized(text: str, expected: str) -> None:
    assert str(CpuSet(text)) == expected


@pytest.mark.parametrize("text", ["a", "3-1", "1,", ",", "-1", "1-", "1--2", "0x1", "1.5", "1 2", "²"])
def test_bad_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"got CPU list .*, expected numbers and ranges") as caught:
        CpuSet(text)
    assert repr(text) in str(caught.value)


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="got CPU number -2, expected none below 0"):
        CpuSet([3, -1, -2])


def test_other_types_are_not_equal() -> None:
    assert CpuSet("0-1") != {0, 1}
    assert CpuSet() != ""
