"""Reshapes: which are allowed, and that elements come through in their order, both ways."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelling import SOON, rows

from yais.core.tensor import DataType, TensorSpec
from yais.engines.python import PythonEngine
from yais.errors import Internal
from yais.inference.job import Job
from yais.inference.layout import Signature
from yais.inference.model import Model
from yais.inference.model_options import ModelOptions
from yais.inference.request import InferRequest
from yais.inference.reshape import ReshapeAdapter, Reshapes, check_reshape
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.queue import Batch, CloseReason

Shape = tuple[int, ...]
MakeModel = Callable[..., Model]

ANY = "-1 to indicate a variable-size dimension"

NOTHING: Batch[Job] = Batch((), 0, CloseReason.INSTANCE)


def adapter(
    inputs: Sequence[tuple[Shape, Shape | None]],
    outputs: Sequence[tuple[Shape, Shape | None]] = (),
    *,
    max_batch: int = 8,
) -> ReshapeAdapter:
    """Return an adapter of tensors given by what requests have and what the engine has."""
    signature = Signature(
        "M",
        tuple(TensorSpec(f"X{index}", DataType.FP32, dims) for index, (dims, _) in enumerate(inputs)),
        tuple(TensorSpec(f"Y{index}", DataType.FP32, dims) for index, (dims, _) in enumerate(outputs)),
        max_batch=max_batch,
    )
    reshapes = Reshapes(tuple(shape for _, shape in inputs), tuple(shape for _, shape in outputs))
    return ReshapeAdapter(reshapes, signature)


def counted(*shape: int) -> Any:
    return np.arange(math.prod(shape), dtype=np.float32).reshape(shape)


# --- Which are allowed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dims", "shape"),
    [
        ((4,), (2, 2)),
        ((2, 2), (4,)),
        ((4,), (4,)),
        ((1,), ()),
        ((1, 1), ()),
        ((), (1, 1)),
        ((-1,), (-1,)),
        ((-1,), (1, -1)),
        ((2, 4, -1, 6), (8, -1, 1, 6)),  # the example of Triton's own comment
        ((-1, 2, -1), (-1, 2, 1, -1)),
    ],
)
def test_allowed(dims: Shape, shape: Shape) -> None:
    assert check_reshape(dims, shape) is None


@pytest.mark.parametrize(
    ("dims", "shape", "text"),
    [
        ((4,), (2, 3), "has different size for dims and reshape"),
        ((4,), (), "has different size for dims and reshape"),
        ((4,), (-1,), "has different size for dims and reshape"),
        ((-1,), (4,), "has different size for dims and reshape"),
        ((-1,), (), "has different size for dims and reshape"),
        ((2, -1, 6), (-1, 12), "has different size for dims and reshape"),
        ((2, -1, 6), (6, -1, 2), "has different size for dims and reshape"),
        (
            (-1, 2),
            (-1, -1),
            "has different number of variable-size dimensions for dims and reshape",
        ),
        ((4,), (0, 4), f"reshape dimensions must be integer >= 1, or {ANY}"),
        ((4,), (-2, -2), f"reshape dimensions must be integer >= 1, or {ANY}"),
    ],
)
def test_not_allowed(dims: Shape, shape: Shape, text: str) -> None:
    assert check_reshape(dims, shape) == text


# --- Inputs -------------------------------------------------------------------------------------------


def test_inputs_get_the_shapes_of_the_engine() -> None:
    adapted = adapter([((4,), (2, 2)), ((3,), None), ((1,), ())])
    given_arrays = [counted(3, 4), counted(3, 3), counted(3, 1)]
    got = adapted.inputs(list(given_arrays), (), NOTHING)
    assert [array.shape for array in got if array is not None] == [(3, 2, 2), (3, 3), (3,)]
    assert got[1] is given_arrays[1]
    for array, original in zip(got, given_arrays, strict=True):
        assert array is not None and np.shares_memory(array, original)
        assert np.array_equal(array.ravel(), original.ravel())


def test_read_only_inputs() -> None:
    array = np.frombuffer(bytes(16), np.float32).reshape(1, 4)
    (got,) = adapter([((4,), (2, 2))]).inputs([array], (), NOTHING)
    assert got is not None and got.shape == (1, 2, 2) and np.shares_memory(got, array)


def test_an_input_that_is_not_given() -> None:
    adapted = adapter([((4,), (2, 2)), ((4,), None), ((4,), (2, 2))])
    got = adapted.inputs([None, None, counted(1, 4)], (), NOTHING)
    assert got[:2] == [None, None] and got[2] is not None and got[2].shape == (1, 2, 2)


def test_without_a_batch_dimension() -> None:
    adapted = adapter([((4,), (2, 2)), ((-1, 2), (1, -1, 2))], [((1,), ())], max_batch=0)
    got = adapted.inputs([counted(4), counted(5, 2)], (), NOTHING)
    assert [array.shape for array in got if array is not None] == [(2, 2), (1, 5, 2)]
    (output,) = adapted.outputs([counted()], (), NOTHING)
    assert output.shape == (1,)


def test_dimensions_of_any_size_keep_theirs() -> None:
    adapted = adapter([((2, 4, -1, 6, -1), (8, -1, 1, 6, -1, 1))])
    (got,) = adapted.inputs([counted(3, 2, 4, 5, 6, 7)], (), NOTHING)
    assert got is not None and got.shape == (3, 8, 5, 1, 6, 7, 1)


def test_dimensions_without_size() -> None:
    # Nothing could be worked out of the number of elements.
    (got,) = adapter([((-1, 2, -1), (-1, 1, 2, -1))]).inputs([counted(3, 0, 2, 5)], (), NOTHING)
    assert got is not None and got.shape == (3, 0, 1, 2, 5)


# --- Outputs ------------------------------------------------------------------------------------------


def test_outputs_get_the_shapes_of_the_signature() -> None:
    adapted = adapter([], [((4,), (2, 2)), ((3,), None), ((2, -1), (2, -1, 1))])
    arrays = [counted(3, 2, 2), counted(3, 3), counted(3, 2, 6, 1)]
    got = adapted.outputs(arrays, (), NOTHING)
    assert [array.shape for array in got] == [(3, 4), (3, 3), (3, 2, 6)]
    assert got[1] is arrays[1]


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 3), (3, 2, 2, 1), (3,), (), (3, 4, 1)])
def test_an_output_of_another_shape_than_was_said(shape: Shape) -> None:
    with pytest.raises(Internal) as caught:
        adapter([], [((4,), (2, 2))]).outputs([counted(*shape)], (), NOTHING)
    assert str(caught.value) == (
        f"model 'M' returned output 'Y0' of shape {list(shape)}, expected [-1, 2, 2]"
    )


def test_a_wrong_number_of_outputs_is_left_to_the_responder() -> None:
    arrays = [counted(1, 2, 2), counted(1, 1)]
    assert adapter([], [((4,), (2, 2))]).outputs(arrays, (), NOTHING) is arrays


def test_an_output_that_is_not_contiguous() -> None:
    (got,) = adapter([], [((4,), (2, 2))]).outputs([counted(2, 2, 3).transpose(2, 0, 1)], (), NOTHING)
    assert np.array_equal(got, [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]])


# --- There and back -----------------------------------------------------------------------------------

FACTORS = st.lists(st.integers(1, 4), max_size=3)


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[Shape, Shape]:
    """Draw two shapes of the same parts, each cut in another way, with sizes left open between them."""
    dims: list[int] = []
    shape: list[int] = []
    parts = draw(st.lists(FACTORS, min_size=1, max_size=3))
    for index, part in enumerate(parts):
        if index:
            dims.append(-1)
            shape.append(-1)
        dims += part
        shape += draw(st.sampled_from([[math.prod(part)], part[::-1], [1, *part], [*part, 1]]))
    return tuple(dims), tuple(shape)


@given(reshapes(), st.integers(1, 3), st.integers(0, 3), st.booleans())
def test_there_and_back(pair: tuple[Shape, Shape], batch: int, size: int, batching: bool) -> None:
    dims, shape = pair
    assert check_reshape(dims, shape) is None
    adapted = adapter([(dims, shape)], [(dims, shape)], max_batch=8 if batching else 0)
    rows = (batch,) if batching else ()
    original = counted(*rows, *(size if want == -1 else want for want in dims))
    (there,) = adapted.inputs([original], (), NOTHING)
    assert there is not None
    assert there.shape == (*rows, *(size if want == -1 else want for want in shape))
    (back,) = adapted.outputs([there], (), NOTHING)
    assert back.shape == original.shape and np.array_equal(back, original)
    assert not original.size or np.shares_memory(back, original)


# --- In a model ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("batching", [False, True])
def test_requests_see_the_shapes_of_the_signature(make_model: MakeModel, batching: bool) -> None:
    seen: list[Shape] = []

    def transposed(inputs: dict[str, Any]) -> dict[str, Any]:
        seen.append(inputs["X"].shape)
        return {"Y": inputs["X"].transpose(0, 2, 1)}

    x = TensorSpec("X", DataType.FP32, (-1, 2, 3))
    engine = PythonEngine(transposed, inputs=[x], outputs=[TensorSpec("Y", DataType.FP32, (-1, 3, 2))])
    signature = Signature(
        "M", (TensorSpec("X", DataType.FP32, (6,)),), (TensorSpec("Y", DataType.FP32, (6,)),), max_batch=4
    )
    options = ModelOptions(BatchingPolicy(4) if batching else None, reshapes=Reshapes(((2, 3),), ((3, 2),)))
    model = make_model(engine, signature=signature, options=options)
    asked = InferRequest([TensorSpec("X", DataType.FP32, (2, 6))], [counted(2, 6).tobytes()])
    response = model.submit(asked).result(SOON)
    assert response.form.outputs == (TensorSpec("Y", DataType.FP32, (2, 6)),)
    assert rows(response).tolist() == [[0, 3, 1, 4, 2, 5], [6, 9, 7, 10, 8, 11]]
    assert seen == [(2, 2, 3)]
