"""Pinning threads, on this machine."""

from __future__ import annotations

import os
import threading

import pytest

from yais.core.affinity import affinity, allowed_cpus, set_affinity, usable_cpus
from yais.core.cpu_set import CpuSet


def test_affinity_pins_this_thread_and_restores_it() -> None:
    before = allowed_cpus()
    one = CpuSet([min(before)])
    with affinity(one):
        assert allowed_cpus() == one
        with affinity(str(before)):  # Wider again: what counts is the cpuset, not the affinity of the moment.
            assert allowed_cpus() == before
        assert allowed_cpus() == one
    assert allowed_cpus() == before


def test_affinity_restores_after_an_error() -> None:
    before = allowed_cpus()
    with pytest.raises(KeyError), affinity(CpuSet([max(before)])):
        raise KeyError
    assert allowed_cpus() == before


@pytest.mark.parametrize("also_allowed", [False, True])
def test_cpus_that_are_not_there_are_refused(also_allowed: bool) -> None:
    before = allowed_cpus()
    wanted = CpuSet([8000]) | (before if also_allowed else CpuSet())
    with pytest.raises(ValueError, match=r"got CPUs '.*8000', expected .* in '[0-9]") as caught:
        set_affinity(wanted)
    assert f"'{wanted}'" in str(caught.value)
    assert allowed_cpus() == before


def test_no_cpu_at_all_is_refused() -> None:
    before = allowed_cpus()
    with pytest.raises(ValueError, match="got CPUs '', expected at least one"), affinity(CpuSet()):
        pytest.fail("entered")
    assert allowed_cpus() == before


def test_usable_cpus_are_those_of_the_process() -> None:
    seen: list[CpuSet] = []

    def on_a_pinned_thread() -> None:
        set_affinity(CpuSet([min(allowed_cpus())]))
        seen.append(usable_cpus())

    thread = threading.Thread(target=on_a_pinned_thread)
    thread.start()
    thread.join()
    assert seen == [usable_cpus()]
    assert set(usable_cpus()) == os.sched_getaffinity(os.getpid())
