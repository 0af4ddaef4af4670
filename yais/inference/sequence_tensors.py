"""What a model is told of its sequences, and what it has kept for it: control and state tensors.

They are inputs and outputs of the engine that requests do not have. Controls say which rows of a batch hold a
request at all, which of them begin and end a sequence, and of which it is. A state is an output that is the
input of the sequence's next request.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from yais.core.tensor import DataType, TensorSpec
from yais.engines.engine import Array
from yais.errors import Internal, InvalidArgument
from yais.inference.job import Job
from yais.inference.request import SequenceStep
from yais.inference.scheduling.queue import Batch

__all__ = ["Control", "ControlKind", "SequenceAdapter", "SequenceTensors", "State"]


class ControlKind(enum.Enum):
    """What a control says of a row; by the names in configurations."""

    START = "CONTROL_SEQUENCE_START"
    """The request is the first of its sequence."""
    READY = "CONTROL_SEQUENCE_READY"
    """There is a request."""
    END = "CONTROL_SEQUENCE_END"
    """The request is the last of its sequence."""
    CORRID = "CONTROL_SEQUENCE_CORRID"
    """The id of the sequence."""


@dataclass(frozen=True, slots=True)
class Control:
    """An input of the engine that says something of each row; of shape [batch, 1], or [1] without batches.

    Attributes
    ----------
    false, true
        How it says no, as in rows without a request, and yes. A CORRID control has the id for yes.
    """

    name: str
    kind: ControlKind
    datatype: DataType
    false: Any = 0
    true: Any = 1

    def value(self, step: SequenceStep) -> Any:
        """Return what it says of a request."""
        if self.kind is ControlKind.CORRID:
            return step.id if self.datatype is not DataType.BYTES else str(step.id).encode()
        says = {ControlKind.START: step.start, ControlKind.END: step.end}.get(self.kind, True)
        return self.true if says else self.false

    def check(self, step: SequenceStep, model: str) -> None:
        """Check that it can carry a sequence's id. Raises InvalidArgument."""
        if self.kind is not ControlKind.CORRID:
            return
        got = f"got the correlation ID {step.id!r} in a request to model '{model}', expected"
        control = f"its control input '{self.name}' is {self.datatype.value}"
        if self.datatype is DataType.BYTES:
            if not isinstance(step.id, str):
                raise InvalidArgument(f"{got} text: {control}")
        elif isinstance(step.id, str):
            raise InvalidArgument(f"{got} a number: {control}")
        elif step.id > np.iinfo(self.datatype.numpy).max:
            raise InvalidArgument(f"{got} at most {np.iinfo(self.datatype.numpy).max}: {control}")


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A tensor that is kept for a sequence between its requests.

    Attributes
    ----------
    input_name, output_name
        What the engine takes it as, and gives it as.
    datatype, dims
        Of one sequence's; -1 for a dimension of any size, which may differ from request to request.
    initial
        What a sequence begins with: an array of such a shape, with no dimension of any size.
    output
        Where it is among the outputs that requests may ask for, if it is one of them.
    """

    input_name: str
    output_name: str
    datatype: DataType
    dims: tuple[int, ...]
    initial: Array
    output: int | None = None


@dataclass(frozen=True, slots=True)
class SequenceTensors:
    """The control and state tensors of a model."""

    controls: tuple[Control, ...] = ()
    states: tuple[State, ...] = ()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the engine takes after the inputs of the signature; without a batch dimension."""
        return (
            *(TensorSpec(control.name, control.datatype, (1,)) for control in self.controls),
            *(TensorSpec(state.input_name, state.datatype, state.dims) for state in self.states),
        )

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the engine gives after the outputs of the signature; without a batch dimension."""
        return tuple(
            TensorSpec(state.output_name, state.datatype, state.dims)
            for state in self.states
            if state.output is None
        )

    def check(self, step: SequenceStep | None, model: str) -> None:
        """Check that the model can be told which sequence a request is of. Raises InvalidArgument."""
        if step is not None:
            for control in self.controls:
                control.check(step, model)


class SequenceAdapter:
    """Adds controls and states to batches, and keeps the states they leave; see `Adapter`. Thread-safe.

    Rows without a request are zero, or empty text. A state is kept when all of the batch's outputs are as
    they should be; a batch that fails leaves its sequences' states as they were.

    Parameters
    ----------
    batching
        Whether the engine's tensors have a batch dimension.
    """

    def __init__(self, tensors: SequenceTensors, *, batching: bool) -> None:
        self._tensors = tensors
        self._batching = batching

    def inputs(
        self, arrays: list[Array | None], jobs: Sequence[Job], batch: Batch[Job]
    ) -> list[Array | None]:
        """Return the arrays, with a row for each row of the batch, then the controls, then the states."""
        rows = range(len(jobs)) if batch.rows is None else batch.rows
        if batch.rows is not None:
            arrays = [None if array is None else _spread(array, rows, batch.size) for array in arrays]
        controls = [self._control(control, jobs, rows, batch.size) for control in self._tensors.controls]
        states = [
            self._state(number, state, jobs, rows, batch.size)
            for number, state in enumerate(self._tensors.states)
        ]
        return [*arrays, *controls, *states]

    def outputs(self, arrays: Sequence[Array], jobs: Sequence[Job], batch: Batch[Job]) -> Sequence[Array]:
        """Keep the states, and return the rows of the requests of the other outputs.

        Raises
        ------
        Internal
            A state is none of its type and shape; the message says what it is.
        """
        rows = range(len(jobs)) if batch.rows is None else batch.rows
        first = len(arrays) - len(self._tensors.outputs)
        if self._tensors.states:
            self._keep(arrays, first, jobs, rows, batch.size)
        outputs = arrays[:first]
        return outputs if batch.rows is None else [array[list(rows)] for array in outputs]

    def _control(self, control: Control, jobs: Sequence[Job], rows: Sequence[int], size: int) -> Array:
        empty = b"" if control.datatype is DataType.BYTES else control.false
        array = np.full(size, empty, control.datatype.numpy)
        for row, job in zip(rows, jobs, strict=True):
            assert job.step is not None
            array[row] = control.value(job.step)
        return array.reshape(size, 1) if self._batching else array

    def _state(self, number: int, state: State, jobs: Sequence[Job], rows: Sequence[int], size: int) -> Array:
        values = [_value(job, number, state) for job in jobs]
        if not self._batching:
            return values[0]
        return _spread(np.stack(values), rows, size)

    def _keep(
        self, arrays: Sequence[Array], first: int, jobs: Sequence[Job], rows: Sequence[int], size: int
    ) -> None:
        kept: list[Array] = []
        for state in self._tensors.states:
            position = state.output
            if position is None:
                position, first = first, first + 1
            _check(state, arrays[position], size if self._batching else None)
            kept.append(arrays[position])
        for row, job in zip(rows, jobs, strict=True):
            assert job.sequence is not None
            # Copies, or one sequence would hold the memory of the whole batch.
            job.sequence.states = [(array[row] if self._batching else array).copy() for array in kept]


def _spread(array: Array, rows: Sequence[int], size: int) -> Array:
    """Return an array with these rows, and nothing in the others."""
    if len(array) == size:
        return array
    shape = (size, *array.shape[1:])
    result = np.full(shape, b"", np.object_) if array.dtype == np.object_ else np.zeros(shape, array.dtype)
    result[list(rows)] = array
    return result


def _value(job: Job, number: int, state: State) -> Array:
    """Return the state of a request's sequence. The request that begins one finds nothing of an old one."""
    assert job.step is not None
    assert job.sequence is not None
    if job.step.start:
        job.sequence.states = None
    return state.initial if job.sequence.states is None else job.sequence.states[number]


def _check(state: State, array: Array, size: int | None) -> None:
    expected = state.dims if size is None else (size, *state.dims)
    fits = len(array.shape) == len(expected) and all(
        want in {-1, got} for got, want in zip(array.shape, expected, strict=True)
    )
    if array.dtype != state.datatype.numpy or not fits:
        raise Internal(
            f"the model gave {array.dtype}{list(array.shape)} as state '{state.output_name}', expected "
            f"{state.datatype.numpy}{list(expected)}"
        )
