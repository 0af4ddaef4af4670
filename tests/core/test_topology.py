"""CPU sets, affinity and quotas; the quotas from made-up `proc` and `sys` trees."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.core.topology import (
    CpuSet,
    affinity,
    concurrency,
    cpu_quota,
    pinned,
    set_affinity,
    usable_cpus,
)

if TYPE_CHECKING:
    from pathlib import Path

numbers = st.sets(st.integers(min_value=0, max_value=200))


# --- CpuSet -------------------------------------------------------------------------------------------


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


# --- Affinity -----------------------------------------------------------------------------------------


def test_pinned_pins_this_thread_and_restores_it() -> None:
    before = affinity()
    one = CpuSet([min(before)])
    with pinned(one):
        assert affinity() == one
        with pinned(before):  # Wider again: what counts is the cpuset, not the affinity of the moment.
            assert affinity() == before
        assert affinity() == one
    assert affinity() == before


def test_pinned_restores_after_an_error() -> None:
    before = affinity()
    with pytest.raises(KeyError), pinned(CpuSet([max(before)])):
        raise KeyError
    assert affinity() == before


@pytest.mark.parametrize("also_allowed", [False, True])
def test_cpus_that_are_not_there_are_refused(also_allowed: bool) -> None:
    before = affinity()
    wanted = CpuSet([8000]) | (before if also_allowed else CpuSet())
    with pytest.raises(ValueError, match=r"got CPUs '.*8000', expected .* in '[0-9]") as caught:
        set_affinity(wanted)
    assert f"'{wanted}'" in str(caught.value)
    assert affinity() == before


def test_no_cpu_at_all_is_refused() -> None:
    before = affinity()
    with pytest.raises(ValueError, match="got CPUs '', expected at least one"), pinned(CpuSet()):
        pytest.fail("entered")
    assert affinity() == before


def test_usable_cpus_are_those_of_the_process() -> None:
    seen: list[CpuSet] = []

    def on_a_pinned_thread() -> None:
        set_affinity(CpuSet([min(affinity())]))
        seen.append(usable_cpus())

    thread = threading.Thread(target=on_a_pinned_thread)
    thread.start()
    thread.join()
    assert seen == [usable_cpus()]
    assert set(usable_cpus()) == os.sched_getaffinity(os.getpid())


# --- Quotas -------------------------------------------------------------------------------------------


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "12:memory:/a\n4:cpuset:/a\n3:cpu,cpuacct:/a/b\n0::/a\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, None, id="nothing to read"),
        pytest.param({"proc/self/cgroup": "0::/\n"}, None, id="v2: root of the machine has no file"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/cpu.max": "150000 100000\n",
                "sys/fs/cpu.max": "1000 100000\n",
            },
            1.5,
            id="v2: container",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None, id="v2: unlimited"
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b/c\n",
                "sys/fs/cgroup/a/cpu.max": "200000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/b/c/cpu.max": "40000 10000\n",
                "sys/fs/cgroup/other/cpu.max": "1000 100000\n",
            },
            2.0,
            id="v2: a parent is the tightest",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "50000 100000\n"},
            0.5,
            id="v2: less than one CPU",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"},
            3.0,
            id="v2: above the namespace",
        ),
        pytest.param(
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/a/b/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu/a/b/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
            },
            2.5,
            id="v1: own",
        ),
        pytest.param(
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000\n",
            },
            2.0,
            id="v1: container that sees its path on the host",
        ),
        pytest.param(
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
            id="v1: unlimited",
        ),
    ],
)
def test_cpu_quota(tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
    assert cpu_quota(tree(tmp_path, files)) == expected


@pytest.mark.parametrize(("quota", "expected"), [("20000", 1), ("100000", 1), ("100001", 2), ("9000000", 3)])
def test_concurrency_is_cut_to_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 5})
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{quota} 100000\n"}
    assert concurrency(tree(tmp_path, files)) == expected


def test_concurrency_without_a_quota_is_the_usable_cpus(tmp_path: Path) -> None:
    assert concurrency(tmp_path) == len(usable_cpus())


def test_this_machine_has_an_answer() -> None:
    assert 1 <= concurrency() <= len(usable_cpus())
