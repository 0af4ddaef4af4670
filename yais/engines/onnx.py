"""ONNX Runtime."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from yais.core.cgroup import concurrency
from yais.core.tensor import DataType, TensorSpec
from yais.engines.engine import Array
from yais.engines.onnx_libraries import CUDA_PROVIDERS, load_cuda_libraries
from yais.engines.onnx_options import OnnxOptions
from yais.errors import Internal, InvalidArgument, YaisError

__all__ = ["BFLOAT16", "OnnxEngine", "OnnxOptions", "available_providers", "run_options", "session_options"]

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

_GRAPH_LEVELS = {
    -1: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    2: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    99: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}

BFLOAT16 = 16
"""Stands for elements that numpy lacks: onnx.TensorProto.BFLOAT16."""


def available_providers() -> frozenset[str]:
    """Return the names of the providers that this ONNX Runtime was built with."""
    return frozenset(ort.get_available_providers())


def session_options(options: OnnxOptions) -> Any:
    """Return options as ONNX Runtime takes them for a session."""
    made = ort.SessionOptions()
    made.intra_op_num_threads = options.intra_op_threads or concurrency()
    made.inter_op_num_threads = options.inter_op_threads
    mode = ort.ExecutionMode
    made.execution_mode = mode.ORT_PARALLEL if options.parallel else mode.ORT_SEQUENTIAL
    made.graph_optimization_level = _GRAPH_LEVELS[options.graph_level]
    made.enable_cpu_mem_arena = options.memory_arena
    made.enable_mem_pattern = options.memory_pattern
    made.log_severity_level = 4  # fatal ones; the others are raised
    # Idle threads that spin take the CPU from those that move the data in and out.
    made.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made.add_session_config_entry("session.inter_op.allow_spinning", "0")
    for key, value in options.entries.items():
        made.add_session_config_entry(key, value)
    return made


def run_options(options: OnnxOptions) -> Any:
    """Return options as ONNX Runtime takes them with each run."""
    made = ort.RunOptions()
    if options.shrink_arenas:
        made.add_run_config_entry("memory.enable_memory_arena_shrinkage", options.shrink_arenas)
    return made


class OnnxEngine:
    """One ONNX model in one ONNX Runtime session.

    Parameters
    ----------
    model
        Path of the file, or its contents.
    options
        Threads, optimisations and devices.

    Attributes
    ----------
    session
        ONNX Runtime's; None once closed.
    run_options
        What each of its runs is given.
    optional
        Inputs that have a value in the model, so that they may be left out. `select` takes or leaves them;
        of those it takes, `execute` takes None.

    Raises
    ------
    InvalidArgument
        ONNX Runtime cannot load the model, lacks a provider, or the model has inputs or outputs that are no
        tensors of a supported type. The message says which and why.
    """

    def __init__(self, model: Path | bytes, options: OnnxOptions | None = None) -> None:
        source = model if isinstance(model, bytes) else str(model)
        options = options or OnnxOptions()
        self.session: Any = _session(source, options)
        self.run_options = run_options(options)  # given along, or each run makes its own
        self.optional = tuple(
            _spec(each) for each in self.session.get_overridable_initializers() if each.type in _DATATYPES
        )
        self.select(
            [argument.name for argument in self.session.get_inputs()],
            [argument.name for argument in self.session.get_outputs()],
        )

    def select(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Fix the order of inputs and outputs; see `Engine`. Raises InvalidArgument."""
        takes = {argument.name: _spec(argument) for argument in self.session.get_inputs()}
        gives = {argument.name: _spec(argument) for argument in self.session.get_outputs()}
        optional = {spec.name: spec for spec in self.optional}
        self._may_lack = not optional.keys().isdisjoint(inputs)
        if sorted(takes.keys() | (optional.keys() & set(inputs))) != sorted(inputs):
            raise InvalidArgument(f"got inputs {list(inputs)}, expected {list(takes)} in any order")
        if not gives.keys() >= set(outputs):
            raise InvalidArgument(f"got outputs {list(outputs)}, expected some of {list(gives)}")
        self._input_names, self._output_names = list(inputs), list(outputs)
        known = takes | optional
        self.inputs = tuple(known[name] for name in inputs)
        self.outputs = tuple(gives[name] for name in outputs)
        datatypes = {spec.datatype for spec in (*self.inputs, *gives.values())}
        self._has_strings = DataType.BYTES in datatypes
        self._has_bfloat16 = DataType.BF16 in datatypes
        if self._has_strings and self._has_bfloat16:
            raise InvalidArgument("the model has both string and bfloat16 tensors, expected at most one kind")

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
        feed = dict(zip(self._input_names, inputs, strict=True))
        if self._may_lack:
            feed = {name: array for name, array in feed.items() if array is not None}
        if self._has_bfloat16:
            return self._execute_values(feed)
        if self._has_strings:
            return self._execute_strings(feed)
        outputs: list[Array] = self.session.run(self._output_names, feed, self.run_options)
        return outputs

    def close(self) -> None:
        """Free the session."""
        self.session = None

    def _execute_strings(self, inputs: dict[str, Array]) -> Sequence[Array]:
        # ONNX Runtime takes text: bytes objects would become their repr. What is not UTF-8 goes through
        # as Latin-1, which keeps every byte, but then for all tensors alike (kserve-v2.md, row 46).
        encoding = "utf-8"
        try:
            feed = {name: _text(array, encoding) for name, array in inputs.items()}
        except UnicodeDecodeError:
            encoding = "latin-1"
            feed = {name: _text(array, encoding) for name, array in inputs.items()}
        outputs = self.session.run(self._output_names, feed, self.run_options)
        try:
            return [_bytes(array, encoding) for array in outputs]
        except UnicodeEncodeError:
            raise InvalidArgument(
                "the request has BYTES that are not UTF-8, and the model adds text that is not Latin-1"
            ) from None

    def _execute_values(self, inputs: dict[str, Array]) -> Sequence[Array]:
        # numpy has no bfloat16, so these tensors go in and out as their bits.
        bits = {spec.name for spec in self.inputs if spec.datatype is DataType.BF16}
        feed = {
            name: ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, BFLOAT16)
            if name in bits
            else ort.OrtValue.ortvalue_from_numpy(array)
            for name, array in inputs.items()
        }
        values = self.session.run_with_ort_values(self._output_names, feed, self.run_options)
        return [
            _bits(value) if spec.datatype is DataType.BF16 else value.numpy()
            for spec, value in zip(self.outputs, values, strict=True)
        ]


def _session(source: str | bytes, options: OnnxOptions) -> Any:
    wanted = [provider.name for provider in options.providers]
    providers = [(each.name, dict(each.options)) for each in options.providers]
    available = available_providers()
    missing = set(wanted) - available
    if missing:
        hint = ": pip install onnxruntime-gpu instead" if CUDA_PROVIDERS & missing else ""
        raise InvalidArgument(
            f"this ONNX Runtime lacks {', '.join(sorted(missing))}, it has {', '.join(sorted(available))}"
            f"{hint}"
        )
    if CUDA_PROVIDERS.intersection(wanted):
        load_cuda_libraries()
    try:
        session = ort.InferenceSession(
            source,
            session_options(options),
            providers=[*providers, "CPUExecutionProvider"],
            enable_fallback=0,  # it would print what failed, and go on on the CPUs, also from a run on
        )
    except Exception as error:  # its exceptions have no common base but this
        raise InvalidArgument(f"ONNX Runtime cannot load the model: {error}") from None
    failed = set(wanted).difference(session.get_providers())
    if failed:  # it goes on without, and says so in its log only
        cuda = " (is CUDA there? pip install 'onnxruntime-gpu[cuda,cudnn]')"
        hint = cuda if CUDA_PROVIDERS & failed else ""
        raise InvalidArgument(f"ONNX Runtime cannot start {', '.join(sorted(failed))} for the model{hint}")
    return session


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
