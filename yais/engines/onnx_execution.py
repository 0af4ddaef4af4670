"""One run of ONNX Runtime on a GPU: its copies are on the lane's stream, beside the runs of other lanes.

One session serves all lanes of its GPU, so it cannot compute on a lane's stream: `user_compute_stream` is one
for a session. Each run takes a stream of ONNX Runtime's own, which does not wait for the lane's, and waits
for it at its end (`disable_synchronize_execution_providers` is left off, or nobody could tell when the
outputs are there). So a run begins when its inputs have arrived, and blocks its thread, without the
interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from yais.core.tensor import DataType, TensorSpec
from yais.engines.device_tensors import DeviceTensors, contiguous
from yais.engines.engine import Array
from yais.engines.onnx import BFLOAT16, OnnxEngine
from yais.errors import Internal, YaisError
from yais.lane import Lane
from yais.memory.cuda.settled import settled
from yais.memory.device_array import DeviceArray
from yais.memory.device_buffer import DeviceBuffer

__all__ = ["OnnxExecution"]

_Input = tuple[TensorSpec, Array | DeviceArray, int | None]
"""What it is, what is copied, and where to; None for an array that ONNX Runtime is to copy."""


class OnnxExecution:
    """One run; see `yais.engines.engine.Execution`. Made by `OnnxDeviceEngine.begin`.

    Raises
    ------
    Internal
        From `launch`: ONNX Runtime refuses the input, or fails; the message is its own. CUDA's errors come
        from wherever they are seen.
    """

    def __init__(
        self, engine: OnnxEngine, memory: tuple[str, int], inputs: Sequence[Array | DeviceArray], lane: Lane
    ) -> None:
        self._engine = engine
        self._memory = memory
        self._lane = lane
        self._tensors = DeviceTensors(lane)
        self._values: list[Any] = []  # what ONNX Runtime has allocated; it stays until it is copied
        self._results: list[Array] = []
        self._inputs: list[_Input] = []
        with settled(lane.stream):
            for spec, given in zip(engine.inputs, inputs, strict=True):
                if given is not None:
                    self._inputs.append(self._arriving(spec, contiguous(given)))

    def launch(self, scratch: DeviceBuffer | None) -> None:  # noqa: ARG002 - it has its own
        """Wait for the inputs, run, and queue copies of the outputs; see `Execution`."""
        stream = self._lane.stream
        with settled(stream):
            stream.sync()
            self._values = self._run()
            self._results = [
                self._tensors.copy_out(value.data_ptr(), spec.datatype.numpy, value.shape(), spill=True)
                for spec, value in zip(self._engine.outputs, self._values, strict=True)
            ]

    def wait(self) -> None:
        """Return at once: `launch` has waited for ONNX Runtime."""

    def outputs(self) -> list[Array]:
        """Wait for the copies; see `Execution`."""
        self._lane.stream.sync()
        self._values.clear()
        return self._results

    def _arriving(self, spec: TensorSpec, array: Array | DeviceArray) -> _Input:
        """Queue the copy of an input; to the host, if it is on the device and the lane has no room for it."""
        try:
            return spec, array, self._tensors.copy_in(array)
        except MemoryError:
            if not isinstance(array, DeviceArray):
                return spec, array, None
        on_host = np.empty(array.shape, array.dtype)
        self._lane.stream.copy_out(on_host, array.address)
        return spec, on_host, None

    def _run(self) -> list[Any]:
        session = self._engine.session
        try:
            binding = session.io_binding()
            for spec, array, address in self._inputs:
                kind = BFLOAT16 if spec.datatype is DataType.BF16 else spec.datatype.numpy.type
                place = ("cpu", 0) if address is None else self._memory
                where = cast("Array", array).ctypes.data if address is None else address
                binding.bind_input(spec.name, *place, kind, array.shape, where)
            for spec in self._engine.outputs:
                binding.bind_output(spec.name, *self._memory)
            session.run_with_iobinding(binding, self._engine.run_options)
            outputs: list[Any] = binding.get_outputs()
        except YaisError:
            raise
        except Exception as error:  # its exceptions have no common base but this
            raise Internal(str(error)) from None
        return outputs
