"""ONNX Runtime on a GPU: which models, and how much of its memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from yais.core.tensor import DataType, TensorSpec
from yais.engines.device_tensors import DeviceTensors, batch_bytes
from yais.engines.engine import Array
from yais.engines.onnx import OnnxEngine
from yais.engines.onnx_execution import OnnxExecution
from yais.engines.onnx_options import OnnxOptions
from yais.errors import InvalidArgument
from yais.lane import Lane
from yais.memory.cuda.toolkit import why_no_cuda
from yais.memory.device_array import DeviceArray

__all__ = ["OnnxDeviceEngine", "load_on_gpu"]

_log = logging.getLogger("yais.engines")

_GRAPHS = ("enable_cuda_graph", "trt_cuda_graph_enable")

_NO = frozenset({"", "0", "false", "False"})


def load_on_gpu(
    model: Path | bytes, options: OnnxOptions, *, gpu: int, max_batch: int = 0
) -> OnnxEngine | OnnxDeviceEngine:
    """Return an engine for a model whose providers are on a GPU.

    It is one that runs from the host, with all copies ONNX Runtime's own, where the CUDA packages of yais are
    missing or the model has text, which ONNX Runtime keeps on the host; the reason is logged.

    Parameters
    ----------
    model, options
        See `OnnxEngine`; the providers' `device_id` is the GPU.
    max_batch
        Largest batch; 0 for a model without a batch dimension.

    Raises
    ------
    InvalidArgument
        See `OnnxEngine`; or CUDA graphs are asked for.
    """
    for provider in options.providers:
        for key in _GRAPHS:
            if provider.options.get(key, "") not in _NO:
                raise InvalidArgument(
                    f"got option {key}={provider.options[key]} for {provider.name}, expected none: ONNX "
                    "Runtime's graphs are bound to the addresses they were recorded with, and every lane has "
                    "its own"
                )
    engine = OnnxEngine(model, options)
    reason = why_no_cuda() or _why_on_host(engine)
    if not reason:
        return OnnxDeviceEngine(engine, gpu=gpu, max_batch=max_batch)
    _log.info("an ONNX model on GPU %d copies its tensors itself: %s", gpu, reason)
    return engine


class OnnxDeviceEngine:
    """An ONNX model on a GPU: a `DeviceEngine`. Thread-safe, as the session is.

    Inputs are copied to the lane's device memory, as far as they fit; ONNX Runtime copies the others itself,
    which takes longer. Outputs stay where ONNX Runtime has put them until they are copied to the lane's
    staging memory, or to memory of their own if they do not fit.

    Parameters
    ----------
    engine
        The model in a session whose providers are on the GPU. Without text. Closed with this one.
    gpu
        The GPU.
    max_batch
        Largest batch; 0 for a model without a batch dimension.
    memory
        What ONNX Runtime calls the lanes' device memory: kind and number; ("cuda", gpu) by default.

    Attributes
    ----------
    scratch_size
        0: ONNX Runtime has activation memory of its own.
    device_size
        Bytes of the inputs of the largest batch; dimensions of any size count as 1.
    optional
        Inputs that may be left out.

    Raises
    ------
    InvalidArgument
        The model has text.
    """

    scratch_size = 0
    takes_device_arrays = True

    def __init__(
        self, engine: OnnxEngine, *, gpu: int, max_batch: int = 0, memory: tuple[str, int] | None = None
    ) -> None:
        reason = _why_on_host(engine)
        if reason:
            raise InvalidArgument(f"the model cannot be bound to device memory: {reason}")
        self.gpu: int | None = gpu
        self.optional = engine.optional
        self._engine = engine
        # No graphs. Said, as ONNX Runtime asks each time, and takes longer over an entry that is not there.
        engine.run_options.add_run_config_entry("gpu_graph_id", "-1")
        self._max_batch = max_batch
        self._memory = memory or ("cuda", gpu)

    def __repr__(self) -> str:
        return f"<OnnxDeviceEngine on GPU {self.gpu}: {', '.join(map(str, self.inputs))}>"

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs; see `Engine`."""
        return self._engine.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's outputs; see `Engine`."""
        return self._engine.outputs

    @property
    def device_size(self) -> int:
        """Bytes of device memory of an execution; see `DeviceEngine`."""
        return DeviceTensors.size(batch_bytes(spec, self._max_batch) for spec in self.inputs)

    def select(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Fix the order of inputs and outputs; see `Engine`. Raises InvalidArgument."""
        self._engine.select(inputs, outputs)

    def execute(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run the model from the host; see `Engine`. Raises as `OnnxEngine.execute`."""
        return self._engine.execute(inputs)

    def begin(self, inputs: Sequence[Array | DeviceArray], lane: Lane) -> OnnxExecution:
        """Queue copies of the inputs; see `DeviceEngine`. An optional one may be None."""
        return OnnxExecution(self._engine, self._memory, inputs, lane)

    def close(self) -> None:
        """Free the session. Idempotent."""
        self._engine.close()


def _why_on_host(engine: OnnxEngine) -> str:
    texts = [spec.name for spec in (*engine.inputs, *engine.outputs) if spec.datatype is DataType.BYTES]
    return f"{', '.join(texts)} are text, which ONNX Runtime keeps on the host" if texts else ""
