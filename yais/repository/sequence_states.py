"""What a configuration says of the states that are kept for sequences. Most texts are Triton's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from yais.core.tensor import DataType
from yais.engines.engine import Array
from yais.errors import InvalidArgument
from yais.inference.sequence_tensors import State
from yais.protocol.model_config_pb2 import ModelConfig
from yais.protocol.tensor_codec import decode
from yais.repository.limits import MAX_BYTES, byte_size
from yais.repository.model_files import read_model_file
from yais.repository.tensors import DATATYPES

__all__ = ["sequence_states"]


def sequence_states(config: ModelConfig, directory: Path) -> tuple[State, ...]:
    """Return the states of a model; `sequence_tensors` says more."""
    states = config.sequence_batching.state
    for state in states:
        _check(config, state)
    _check_size(config)
    return tuple(_state(config, state, directory / "initial_state") for state in states)


def _check_size(config: ModelConfig) -> None:
    """Check that the initial states take no more memory than a sequence may."""
    size = sum(
        byte_size(DATATYPES[state.data_type], dims)
        for state in config.sequence_batching.state
        for dims in [initial.dims for initial in state.initial_state] or [state.dims]
    )
    if size > MAX_BYTES:
        raise InvalidArgument(
            f"a sequence of model '{config.name}' has {size} bytes of states, expected at most {MAX_BYTES}"
        )


def _state(config: ModelConfig, state: Any, files: Path) -> State:
    datatype, dims = DATATYPES[state.data_type], tuple(state.dims)
    output = None
    for position, given in enumerate(config.output):
        if given.name == state.output_name:
            output = position
            if given.data_type != state.data_type:
                raise InvalidArgument(
                    f"the data type of output '{given.name}' of model '{config.name}' does not match that of "
                    "the state"
                )
    initial = _initial(state, datatype, dims, files)
    return State(state.input_name, state.output_name, datatype, dims, initial, output)


def _check(config: ModelConfig, state: Any) -> None:
    model, name, dims = config.name, state.input_name, list(state.dims)
    for field in ("input_name", "output_name"):
        if not getattr(state, field):
            raise InvalidArgument(f"sequence batching state must have '{field}' for {model}")
    if state.data_type not in DATATYPES:
        raise InvalidArgument(f"sequence batching state '{name}' must have 'data_type' for {model}")
    if any(size < 1 and size != -1 for size in dims):
        raise InvalidArgument(
            f"sequence batching state '{name}' dimension must be integer >= 1, or -1 to indicate "
            f"a variable-size dimension for {model}"
        )
    if -1 in dims and config.max_batch_size > 1:
        raise InvalidArgument(
            f"got dims {dims} of state '{name}' and max_batch_size {config.max_batch_size} "
            f"for '{model}', expected no dimension of any size or max_batch_size 0 or 1: the sequences of a "
            "batch could have states of different sizes"
        )


def _initial(state: Any, datatype: DataType, dims: tuple[int, ...], files: Path) -> Array:
    """Return what a sequence begins with; zeros with 1 for dimensions of any size if nothing is said."""
    name = state.input_name
    if not state.initial_state:
        return _zeros(datatype, tuple(1 if size == -1 else size for size in dims))
    if len(state.initial_state) > 1:
        raise InvalidArgument(
            f"initial_state field for state input '{name}' must contain exactly one or zero element. Found "
            f"'{len(state.initial_state)}' elements."
        )
    initial = state.initial_state[0]
    shape = tuple(initial.dims)
    _check_initial(initial, state, shape, dims)
    kind = initial.WhichOneof("state_data")
    if kind is None:
        raise InvalidArgument(f"initial_state setting expects state'{name}' to have state_data set")
    return _zeros(datatype, shape) if kind == "zero_data" else _read(initial, datatype, shape, files)


def _check_initial(initial: Any, state: Any, shape: tuple[int, ...], dims: tuple[int, ...]) -> None:
    name = state.input_name
    if initial.data_type != state.data_type:
        raise InvalidArgument(
            f"The data type used for 'initial_state' field of state '{name}' does not match the state data "
            "type."
        )
    if not initial.name:
        raise InvalidArgument(f"Field 'name' must be set when using initial_state for state input '{name}'.")
    if len(shape) != len(dims):
        raise InvalidArgument(
            f"Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions for state "
            f"input '{name}'. {len(shape)} != {len(dims)}"
        )
    for got, want in zip(shape, dims, strict=True):
        if got < 1:
            raise InvalidArgument(
                f"'initial_state' field for state input name '{name}' contains variable dimensions."
            )
        if want not in {-1, got}:
            raise InvalidArgument(
                f"'initial_state' dim for input name '{name}' doesn't match 'state' dim description. "
                f"{got} != {want}"
            )


def _zeros(datatype: DataType, shape: tuple[int, ...]) -> Array:
    return np.zeros(shape, datatype.numpy) if datatype.size else np.full(shape, b"", np.object_)


def _read(initial: Any, datatype: DataType, shape: tuple[int, ...], files: Path) -> Array:
    """Return the contents of a file, of which only what is needed is used."""
    which = f"initial_state file '{initial.data_file}'"
    data = read_model_file(which, files, initial.data_file)
    size = math.prod(shape) * datatype.size
    if len(data) < size:
        raise InvalidArgument(
            f"initial_state setting expects {size} bytes, but the data provided from {initial.data_file} "
            f"only has {len(data)} bytes."
        )
    try:
        return decode(datatype, shape, data[: size or None])
    except InvalidArgument as error:
        raise InvalidArgument(f"{which}: {error}") from None
