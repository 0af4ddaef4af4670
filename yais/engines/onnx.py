"""ONNX Runtime on the CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from yais.core.cgroup import concurrency
from yais.core.tensor import DataType, TensorSpec
from yais.engines.engine import Array
from yais.errors import Internal, InvalidArgument, YaisError

__all__ = ["OnnxEngine", "OnnxOptions"]

_DATATYPES = {
    "tensor(bool)": DataType.BOOL,
    "tensor(uint8)": DataType.UINT8,
    "tensor(uint16)": DataType.UINT16,
    "tensor(uint32)": DataType.UINT32,
    "tensor(uint64)": DataType.UINT64,
    "tensor(int8)": DataType.INT8,
    "tensor(int16)": DataType.INT16,
    "tensor(int32)": DataType.INT32,
    "tensor(int64)": DataType.INT64,
    "tensor(float16)": DataType.FP16,
    "tensor(float)": DataType.FP32,
    "tensor(double)": DataType.FP64,
    "tensor(bfloat16)": DataType.BF16,
    "tensor(string)": DataType.BYTES,
}

_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16


@dataclass(frozen=True, slots=True)
class OnnxOptions:
    """How ONNX Runtime runs a model.

    Attributes
    ----------
    intra_op_threads
        Threads that share one operator; 0 means one per usable CPU (container limits respected).
    inter_op_threads
        Threads that run operators side by side, in parallel mode; 0 leaves it to ONNX Runtime.
    parallel
        Whether independent operators of the graph may run side by side.
    graph_level
        Graph optimisation: -1 none, 1 basic, 2 extended, 99 all.

    Raises
    ------
    ValueError
        There is no such `graph_level`.
    """

    intra_op_threads: int = 0
    inter_op_threads: int = 0
    parallel: bool = False
    graph_level: int = 99

    def __post_init__(self) -> None:
        if self.graph_level not in _GRAPH_LEVELS:
            expected = ", ".join(map(str, _GRAPH_LEVELS))
            raise ValueError(f"got graph_level={self.graph_level}, expected one of {expected}")

    def session_options(self) -> Any:
        """Return them as ONNX Runtime takes them."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.intra_op_threads or concurrency()
        options.inter_op_num_threads = self.inter_op_threads
        mode = ort.ExecutionMode
        options.execution_mode = mode.ORT_PARALLEL if self.parallel else mode.ORT_SEQUENTIAL
        options.graph_optimization_level = _GRAPH_LEVELS[self.graph_level]
        options.log_severity_level = 4  # fatal ones; the others are raised
        # Idle threads that spin take the CPU from those that move the data in and out.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        return options


_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    2: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    99: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


class OnnxEngine:
    """One ONNX model in one ONNX Runtime session.

    Parameters
    ----------
    model
        Path of the file, or its contents.
    options
        Threads and optimisations.

    Raises
    ------
    InvalidArgument
        ONNX Runtime cannot load the model, or the model has inputs or outputs that are no tensors of a
        supported type. The message says which and why.
    """

    def __init__(self, model: Path | bytes, options: OnnxOptions | None = None) -> None:
        source = model if isinstance(model, bytes) else str(model)
        session_options = (options or OnnxOptions()).session_options()
        try:
            self._session: Any = ort.InferenceSession(
                source, session_options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common base but this
            raise InvalidArgument(f"ONNX Runtime cannot load the model: {error}") from None
        self._run_options = ort.RunOptions()  # given along, or each run makes its own
        self.select(
            [argument.name for argument in self._session.get_inputs()],
            [argument.name for argument in self._session.get_outputs()],
        )
        datatypes = {spec.datatype for spec in (*self.inputs, *self.outputs)}
        self._has_strings = DataType.BYTES in datatypes
        self._has_bfloat16 = DataType.BF16 in datatypes
        if self._has_strings and self._has_bfloat16:
            raise InvalidArgument("the model has both string and bfloat16 tensors, expected at most one kind")

    def select(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Fix the order of inputs and outputs; see `Engine`. Raises InvalidArgument."""
        takes = {argument.name: _spec(argument) for argument in self._session.get_inputs()}
        gives = {argument.name: _spec(argument) for argument in self._session.get_outputs()}
        if sorted(inputs) != sorted(takes):
            raise InvalidArgument(f"got inputs {list(inputs)}, expected {list(takes)} in any order")
        if not gives.keys() >= set(outputs):
            raise InvalidArgument(f"got outputs {list(outputs)}, expected some of {list(gives)}")
        self._input_names, self._output_names = list(inputs), list(outputs)
        self.inputs = tuple(takes[name] for name in inputs)
        self.outputs = tuple(gives[name] for name in outputs)

    def execute(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run the model; see `Engine`.

        Raises
        ------
        Internal
            ONNX Runtime refuses the input, or fails; the message is its own.
        InvalidArgument
            BYTES that are not UTF-8 met text of the model's that is not Latin-1.
        """
        try:
            return self._execute(inputs)
        except YaisError:
            raise
        except Exception as error:  # its exceptions have no common base but this
            raise Internal(str(error)) from None

    def _execute(self, inputs: Sequence[Array]) -> Sequence[Array]:
        if self._has_bfloat16:
            return self._execute_values(inputs)
        if self._has_strings:
            return self._execute_strings(inputs)
        feed = dict(zip(self._input_names, inputs, strict=True))
        outputs: list[Array] = self._session.run(self._output_names, feed, self._run_options)
        return outputs

    def close(self) -> None:
        """Free the session."""
        self._session = None

    def _execute_strings(self, inputs: Sequence[Array]) -> Sequence[Array]:
        # ONNX Runtime takes text: bytes objects would become their repr. What is not UTF-8 goes through
        # as Latin-1, which keeps every byte, but then for all tensors alike (kserve-v2.md, row 46).
        encoding = "utf-8"
        try:
            feed = [_text(array, encoding) for array in inputs]
        except UnicodeDecodeError:
            encoding = "latin-1"
            feed = [_text(array, encoding) for array in inputs]
        outputs = self._session.run(self._output_names, dict(zip(self._input_names, feed, strict=True)))
        try:
            return [_bytes(array, encoding) for array in outputs]
        except UnicodeEncodeError:
            raise InvalidArgument(
                "the request has BYTES that are not UTF-8, and the model adds text that is not Latin-1"
            ) from None

    def _execute_values(self, inputs: Sequence[Array]) -> Sequence[Array]:
        # numpy has no bfloat16, so these tensors go in and out as their bits.
        feed = {}
        for spec, array in zip(self.inputs, inputs, strict=True):
            if spec.datatype is DataType.BF16:
                feed[spec.name] = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _BFLOAT16)
            else:
                feed[spec.name] = ort.OrtValue.ortvalue_from_numpy(array)
        values = self._session.run_with_ort_values(self._output_names, feed)
        return [
            _bits(value) if spec.datatype is DataType.BF16 else value.numpy()
            for spec, value in zip(self.outputs, values, strict=True)
        ]


def _spec(argument: Any) -> TensorSpec:
    datatype = _DATATYPES.get(argument.type)
    if datatype is None:
        known = ", ".join(_DATATYPES)
        raise InvalidArgument(f"'{argument.name}' is a {argument.type}, expected one of {known}")
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in argument.shape)
    return TensorSpec(argument.name, datatype, shape)


def _text(array: Array, encoding: str) -> Array:
    if array.dtype != np.object_:
        return array
    text = np.empty(array.shape, np.object_)
    text.ravel()[:] = [element.decode(encoding) for element in array.ravel()]
    return text


def _bytes(array: Array, encoding: str) -> Array:
    if array.dtype != np.object_:
        return array
    encoded = np.empty(array.shape, np.object_)
    encoded.ravel()[:] = [element.encode(encoding) for element in array.ravel()]
    return encoded


def _bits(value: Any) -> Array:
    shape = tuple(value.shape())
    bits = np.empty(shape, np.uint16)
    ctypes.memmove(bits.ctypes.data, value.data_ptr(), bits.nbytes)
    return bits
