"""The capacity plan and its text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.core.tensor import DataType, TensorSpec
from yais.inference.layout import Signature
from yais.inference.plan import CapacityPlan, ModelPlan, model_plan, staging_bytes
from yais.inference.profile import Profile

X = TensorSpec("x", DataType.FP32, (3, 5))
LABELS = TensorSpec("labels", DataType.BYTES, (1,))
OPEN = TensorSpec("open", DataType.INT8, (-1, 7))
Y = TensorSpec("y", DataType.FP64, (10,))


def planned(*inputs: TensorSpec, max_batch: int = 8, **options: object) -> ModelPlan:
    signature = Signature("M", inputs, (Y,), max_batch, options.pop("profiles", {}))  # type: ignore[arg-type]
    return model_plan(signature, 2, **{"scratch": 0, "device": 0, **options})  # type: ignore[arg-type]


def test_inputs_of_the_largest_batch_are_counted() -> None:
    plan = planned(X)
    assert (plan.name, plan.concurrency, plan.batch, plan.staging, plan.open) == (
        "M",
        2,
        8,
        512,
        (),
    )  # of 480
    assert planned(X, max_batch=0).staging == 64 and planned(X, max_batch=0).batch == 1
    assert planned(X, X).staging == 2 * 512


def test_texts_take_no_staging_memory() -> None:
    assert planned(LABELS).staging == 0 and planned(X, LABELS).staging == 512


def test_dimensions_of_any_size_count_as_one_or_by_their_profile() -> None:
    assert planned(OPEN).staging == 64 and planned(OPEN).open == ("open",)
    plan = planned(OPEN, profiles={"open": Profile((1, 7), (100, 7))})
    assert plan.staging == 5632 and plan.open == ()  # of 8 x 700


def test_outputs_of_a_device_are_counted() -> None:
    assert planned(X, on_device=True).staging == 512 + 640


def test_open_sizes_on_a_device_are_as_large_as_there() -> None:
    """The engine knows how large they get, and what it copies comes and goes through staging memory."""
    assert planned(OPEN, on_device=True, device=1 << 20).staging == 1 << 20
    assert planned(OPEN, on_device=True, device=100).staging == 64 + 640
    assert planned(X, on_device=True, device=1 << 20).staging == 512 + 640
    profiles = {"open": Profile((1, 7), (100, 7))}
    assert planned(OPEN, on_device=True, device=1 << 20, profiles=profiles).staging == 5632 + 640


@given(st.lists(st.integers(0, 1 << 40), max_size=5))
def test_a_staging_arena_has_room_for_every_model(sizes: list[int]) -> None:
    size = staging_bytes([ModelPlan("M", 1, 1, staging, 0, 0, ()) for staging in sizes])
    assert size >= max(sizes, default=0) and size & (size - 1) == 0 and size >= 32768
    assert size == 32768 or size < 2 * max(sizes)


def test_totals_and_text() -> None:
    models = (
        ModelPlan("M", 2, 8, 3 << 20, 0, 0, ()),
        ModelPlan("N", 1, 1, 100, 5 << 30, 1 << 20, ("x", "z")),
    )
    plan = CapacityPlan(models, tokens=2, scratch=5 << 30, lanes=4, staging=4 << 20, device=1 << 20)
    assert (plan.host_total, plan.device_total) == (16 << 20, (4 << 20) + (10 << 30))
    assert str(plan).splitlines() == [
        "Creating 2 execution tokens, each with 5.0 GiB of activation memory",
        "Creating 4 lanes, each with 4.0 MiB of host staging memory and 1.0 MiB of device memory",
        "  M: 2 at once, batches of up to 8, 3.0 MiB of tensors",
        "  N: 1 at once, batches of up to 1, 100 B of tensors, 5.0 GiB of activations; any size: x, z",
        "Total host memory: 16.0 MiB",
        "Total device memory: 10.0 GiB",
    ]


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 40, "3072.0 GiB")]
)
def test_sizes_are_readable(size: int, text: str) -> None:
    plan = CapacityPlan((), tokens=1, scratch=0, lanes=1, staging=size, device=0)
    assert str(plan).splitlines()[-1] == f"Total host memory: {text}"
