"""How far a build is, from phases within phases."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yais.build.progress import BuildProgress


def test_a_phase_is_a_part_of_a_step_of_another():
    progress = BuildProgress()
    assert progress.start("build", None, 2) == 0
    assert progress.start("clone", "build", 4) == 0
    assert progress.step("clone", 0) == pytest.approx(1 / 8)
    assert progress.step("clone", 3) == pytest.approx(1 / 2)
    progress.finish("clone")
    assert progress.step("build", 0) == pytest.approx(1 / 2)
    assert progress.start("time", "build", 1) == pytest.approx(1 / 2)
    assert progress.step("time", 0) == 1
    assert progress.step("build", 1) == 1


def test_phases_that_are_not_known_change_nothing():
    progress = BuildProgress()
    assert progress.step("what", 3) == 0
    progress.finish("what")
    assert progress.start("child", "gone", 0) == 0


names = st.sampled_from(["a", "b", "c"])
calls = st.one_of(
    st.tuples(st.just("start"), names, st.one_of(st.none(), names), st.integers(0, 4)),
    st.tuples(st.just("step"), names, st.integers(0, 9)),
    st.tuples(st.just("finish"), names),
)


@settings(deadline=None)
@given(st.lists(calls, max_size=40))
def test_whatever_a_builder_says_it_never_goes_back_and_ends_at_one(said):
    progress, last = BuildProgress(), 0.0
    for name, *arguments in said:
        part = getattr(progress, name)(*arguments)
        if name != "finish":
            assert last <= part <= 1
            last = part
