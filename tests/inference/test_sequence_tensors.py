"""Controls and states: what an engine is given with the requests of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from yais.core.tensor import DataType, TensorSpec
from yais.errors import Internal, InvalidArgument
from yais.inference.job import Job
from yais.inference.layout import Signature
from yais.inference.request import InferRequest, SequenceStep
from yais.inference.scheduling.queue import Batch, CloseReason
from yais.inference.scheduling.sequence import LiveSequence
from yais.inference.sequence_tensors import Control, ControlKind, SequenceAdapter, SequenceTensors, State

X = TensorSpec("x", DataType.FP32, (1,))
SIGNATURE = Signature("M", (X,), (TensorSpec("y", DataType.FP32, (1,)),), max_batch=4)

START = Control("start", ControlKind.START, DataType.INT32)
READY = Control("ready", ControlKind.READY, DataType.FP32, -1.0, 2.0)
END = Control("end", ControlKind.END, DataType.BOOL, False, True)
CORRID = Control("id", ControlKind.CORRID, DataType.UINT64)
SUM = State("in", "out", DataType.FP32, (1,), np.array([7], np.float32))


def job(step: SequenceStep, sequence: LiveSequence | None = None) -> Job:
    request = InferRequest([TensorSpec("x", DataType.FP32, (1, 1))], [np.ones((1, 1), np.float32)])
    request.sequence = step
    made = Job(request, SIGNATURE.layout(request), 0)
    made.sequence = sequence or LiveSequence(step.id)
    return made


def batch_of(jobs: Sequence[Job], rows: Sequence[int] | None = None) -> Batch[Job]:
    size = len(jobs) if rows is None else rows[-1] + 1
    return Batch(jobs, size, CloseReason.INSTANCE, 0, rows)


def given(adapter: SequenceAdapter, jobs: Sequence[Job], rows: Sequence[int] | None = None) -> list[Any]:
    x = np.arange(1, len(jobs) + 1, dtype=np.float32).reshape(-1, 1)
    return [array.tolist() for array in adapter.inputs([x], jobs, batch_of(jobs, rows))]


STEPS = [SequenceStep(5, start=True), SequenceStep(6, end=True), SequenceStep(7, start=True, end=True)]


def test_controls_say_what_each_row_is() -> None:
    adapter = SequenceAdapter(SequenceTensors((START, READY, END, CORRID)), batching=True)
    arrays = adapter.inputs(
        [np.ones((3, 1), np.float32)], jobs := [job(step) for step in STEPS], batch_of(jobs)
    )
    assert [array.dtype for array in arrays] == [np.float32, np.int32, np.float32, np.bool_, np.uint64]
    assert all(array.shape == (3, 1) for array in arrays)
    assert [array.ravel().tolist() for array in arrays[1:]] == [
        [1, 0, 1],
        [2.0, 2.0, 2.0],
        [False, True, True],
        [5, 6, 7],
    ]


def test_rows_without_a_request_say_so() -> None:
    adapter = SequenceAdapter(SequenceTensors((START, READY, END, CORRID), (SUM,)), batching=True)
    jobs = [job(STEPS[2]), job(STEPS[1])]
    assert given(adapter, jobs, [1, 3]) == [
        [[0], [1], [0], [2]],
        [[0], [1], [0], [0]],
        [[-1], [2], [-1], [2]],
        [[False], [True], [False], [True]],
        [[0], [7], [0], [6]],
        [[0], [7], [0], [7]],
    ]


def test_text_in_rows_without_a_request_is_empty() -> None:
    corrid = Control("id", ControlKind.CORRID, DataType.BYTES)
    state = State("in", "out", DataType.BYTES, (), np.array(b"none", object))
    adapter = SequenceAdapter(SequenceTensors((corrid,), (state,)), batching=True)
    jobs = [job(SequenceStep("é", start=True))]
    x, ids, states = adapter.inputs([np.array([[b"x"]], object)], jobs, batch_of(jobs, [1]))
    assert x.tolist() == [[b""], [b"x"]]
    assert ids.tolist() == [[b""], ["é".encode()]] and ids.dtype == np.object_
    assert states.tolist() == [b"", b"none"] and states.shape == (2,)


@pytest.mark.parametrize("datatype", [DataType.INT32, DataType.FP32, DataType.BOOL])
def test_controls_of_every_type(datatype: DataType) -> None:
    false, true = datatype.numpy.type(1), datatype.numpy.type(0)  # the other way round
    controls = tuple(
        Control(kind.value, kind, datatype, false, true)
        for kind in (ControlKind.END, ControlKind.START, ControlKind.READY)
    )
    adapter = SequenceAdapter(SequenceTensors(controls), batching=True)
    assert given(adapter, [job(STEPS[0])], [1])[1:] == [[[1], [1]], [[1], [0]], [[1], [0]]]


@pytest.mark.parametrize(
    ("datatype", "most"),
    [
        (DataType.UINT64, 2**64 - 1),
        (DataType.INT64, 2**63 - 1),
        (DataType.UINT32, 2**32 - 1),
        (DataType.INT32, 2**31 - 1),
    ],
)
def test_ids_that_a_control_cannot_carry(datatype: DataType, most: int) -> None:
    corrid = Control("id", ControlKind.CORRID, datatype)
    tensors = SequenceTensors((START, corrid))
    tensors.check(SequenceStep(most), "M")
    tensors.check(None, "M")
    assert given(SequenceAdapter(tensors, batching=True), [job(SequenceStep(most))])[2] == [[most]]
    text = f"'M', expected at most {most}: its control input 'id' is {datatype.value}$"
    with pytest.raises(InvalidArgument, match=text):
        tensors.check(SequenceStep(most + 1), "M")
    with pytest.raises(InvalidArgument, match=r"^got the correlation ID 'x' in .* 'M', expected a number: "):
        tensors.check(SequenceStep("x"), "M")


def test_texts_and_numbers_as_ids() -> None:
    tensors = SequenceTensors((Control("id", ControlKind.CORRID, DataType.BYTES),))
    tensors.check(SequenceStep("x"), "M")
    with pytest.raises(InvalidArgument, match=r"got the correlation ID 7 in .* expected text: "):
        tensors.check(SequenceStep(7), "M")
    SequenceTensors((START,)).check(SequenceStep("x"), "M")


def test_without_a_batch_dimension() -> None:
    adapter = SequenceAdapter(SequenceTensors((START, CORRID), (SUM,)), batching=False)
    jobs = [job(STEPS[0])]
    x = np.ones(3, np.float32)
    arrays = adapter.inputs([x], jobs, batch_of(jobs))
    assert arrays[0] is x and [array.tolist() for array in arrays[1:]] == [[1], [5], [7]]
    out = np.array([8], np.float32)
    assert [array.tolist() for array in adapter.outputs([x, out], jobs, batch_of(jobs))] == [[1, 1, 1]]
    assert adapter.inputs([x], [job(SequenceStep(5), jobs[0].sequence)], batch_of(jobs))[-1].tolist() == [8]


def test_a_state_goes_from_batch_to_batch() -> None:
    adapter = SequenceAdapter(SequenceTensors((), (SUM,)), batching=True)
    a, b = LiveSequence("a"), LiveSequence("b")
    first = [job(SequenceStep("a", start=True), a), job(SequenceStep("b", start=True), b)]
    assert given(adapter, first, [0, 2])[1] == [[7], [0], [7]]
    y, state = np.array([[1], [2], [3]], np.float32), np.array([[10], [20], [30]], np.float32)
    (kept,) = adapter.outputs([y, state], first, batch_of(first, [0, 2]))
    assert kept.tolist() == [[1], [3]]
    state[:] = 0  # the engine may use its memory again
    assert given(adapter, [job(SequenceStep("b"), b)], [2])[1] == [[0], [0], [30]]
    assert given(adapter, [job(SequenceStep("a"), a)])[1] == [[10]]


def test_a_start_finds_nothing_of_an_old_sequence() -> None:
    adapter = SequenceAdapter(SequenceTensors((), (SUM,)), batching=True)
    sequence = LiveSequence("a")
    sequence.states = [np.array([99], np.float32)]
    assert given(adapter, [job(SequenceStep("a", start=True), sequence)])[1] == [[7]]
    # Nor does what follows it, if it failed.
    assert given(adapter, [job(SequenceStep("a"), sequence)])[1] == [[7]]


def test_a_batch_that_fails_leaves_the_states() -> None:
    sums = State("in2", "out2", DataType.FP32, (2,), np.zeros(2, np.float32))
    adapter = SequenceAdapter(SequenceTensors((), (SUM, sums)), batching=True)
    sequence = LiveSequence("a")
    jobs = [job(SequenceStep("a"), sequence)]
    sequence.states = before = [np.array([1], np.float32), np.ones(2, np.float32)]
    good, y = np.array([[5]], np.float32), np.array([[0]], np.float32)
    for bad, got in (
        (np.zeros((1, 3), np.float32), r"float32\[1, 3\]"),
        (np.zeros((2, 2), np.float32), r"float32\[2, 2\]"),
        (np.zeros((1, 2), np.int32), r"int32\[1, 2\]"),
        (np.zeros((1,), np.float32), r"float32\[1\]"),
    ):
        with pytest.raises(Internal, match=f"^the model gave {got} as state 'out2', expected float32.1, 2.$"):
            adapter.outputs([y, good, bad], jobs, batch_of(jobs))
        assert sequence.states is before


def test_a_state_may_be_an_output_of_requests_too() -> None:
    shown = State("in", "out", DataType.FP32, (1,), np.zeros(1, np.float32), output=0)
    hidden = State("in2", "out2", DataType.FP32, (1,), np.zeros(1, np.float32))
    tensors = SequenceTensors((START,), (hidden, shown))
    assert [spec.name for spec in tensors.inputs] == ["start", "in2", "in"]
    assert [spec.name for spec in tensors.outputs] == ["out2"]
    adapter = SequenceAdapter(tensors, batching=True)
    jobs = [job(SequenceStep("a", start=True))]
    arrays = [np.array([[value]], np.float32) for value in (1, 2, 3)]  # out, y, out2
    assert [array.tolist() for array in adapter.outputs(arrays, jobs, batch_of(jobs))] == [[[1]], [[2]]]
    assert jobs[0].sequence is not None and jobs[0].sequence.states == [[3], [1]]


def test_a_state_may_grow_without_others() -> None:
    state = State("in", "out", DataType.FP32, (-1,), np.zeros(1, np.float32))
    adapter = SequenceAdapter(SequenceTensors((), (state,)), batching=True)
    sequence = LiveSequence("a")
    first = [job(SequenceStep("a", start=True), sequence)]
    assert given(adapter, first)[1] == [[0]]
    adapter.outputs([np.ones((1, 1), np.float32), np.ones((1, 3), np.float32)], first, batch_of(first))
    assert given(adapter, [job(SequenceStep("a"), sequence)])[1] == [[1, 1, 1]]
