"""Profiles: sizes of dimensions that may have any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelling import SOON

from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument
from yais.inference.manager import InferenceManager
from yais.inference.profile import Profile

X = TensorSpec("x", DataType.FP32, (-1, -1, 3))
Y = TensorSpec("y", DataType.INT64, (-1, 1))


def width(arrays: Any) -> Any:
    return {"y": np.full((len(arrays["x"]), 1), arrays["x"].shape[1])}


@pytest.fixture
def manager() -> Iterator[InferenceManager]:
    with InferenceManager(1) as manager:
        yield manager


def test_the_largest_is_usual() -> None:
    assert Profile((1, 3), (9, 3)).usual == (9, 3)
    assert Profile((1, 3), (9, 3), (4, 3)).usual == (4, 3)


@pytest.mark.parametrize(
    "shapes",
    [((2,), (1,)), ((1,), (2,), (3,)), ((1,), (2,), (0,)), ((1, 1), (2,)), ((1,), (2,), (1, 1))],
    ids=str,
)
def test_shapes_that_are_no_range(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="expected shapes of one rank"):
        Profile(*shapes)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(-1, 6)), max_size=4))
def test_what_is_allowed_lies_between_the_bounds(dimensions: list[tuple[int, int, int]]) -> None:
    smallest = tuple(min(low, high) for low, high, _ in dimensions)
    largest = tuple(max(low, high) for low, high, _ in dimensions)
    shape = tuple(size for _, _, size in dimensions)
    profile = Profile(smallest, largest)
    assert profile.allows(shape) == (np.clip(shape, smallest, largest).tolist() == list(shape))
    assert profile.allows(smallest) and profile.allows(largest) and not profile.allows((*shape, 1))


def test_requests_keep_to_it(manager: InferenceManager) -> None:
    profile = {"x": Profile((2, 3), (8, 3))}
    manager.register("M", width, inputs=[X], outputs=[Y], profiles=profile, max_batch_size=4)
    manager.allocate()
    runner = manager.infer_runner("M")
    for size in range(2, 9):
        answer = runner.infer(x=np.zeros((2, size, 3), np.float32)).get(SOON)
        assert answer["y"].tolist() == [[size], [size]]
    for size in (0, 1, 9):
        with pytest.raises(InvalidArgument, match="x"):
            runner.infer(x=np.zeros((2, size, 3), np.float32)).get(SOON)


def test_memory_is_planned_for_the_largest(manager: InferenceManager) -> None:
    manager.register("open", width, inputs=[X], outputs=[Y], max_batch_size=4)
    profile = {"x": Profile((2, 3), (80, 3))}
    manager.register("M", width, inputs=[X], outputs=[Y], profiles=profile, max_batch_size=4)
    without, with_profile = manager.plan().models
    assert (without.staging, without.open) == (64, ("x",))  # of 4 x 1 x 3 floats
    assert (with_profile.staging, with_profile.open) == (4 * 80 * 3 * 4, ())


@pytest.mark.parametrize(
    "profile", [Profile((2, 3), (8, 4)), Profile((2, 2), (8, 3)), Profile((2,), (8,))], ids=repr
)
def test_a_profile_of_another_input(manager: InferenceManager, profile: Profile) -> None:
    with pytest.raises(InvalidArgument, match="a profile of"):
        manager.register("M", width, inputs=[X], outputs=[Y], profiles={"x": profile})
