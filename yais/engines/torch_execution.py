"""One run of PyTorch on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from yais.core.tensor import DataType, TensorSpec
from yais.engines.device_tensors import DeviceTensors, contiguous, queue_copy_in
from yais.engines.engine import Array
from yais.engines.torch_gpu import TorchMemory
from yais.engines.torch_tensors import dtype_of, torch_module
from yais.lane import Lane
from yais.memory.cuda.settled import settled
from yais.memory.device_array import DeviceArray
from yais.memory.device_buffer import DeviceBuffer

__all__ = ["TorchExecution"]


class TorchExecution:
    """One run; see `yais.engines.engine.Execution`. Made by `TorchDeviceEngine.begin`.

    Raises
    ------
    InvalidArgument, MemoryError, Internal
        From `launch`, as from `TorchEngine.execute`. CUDA's errors come from wherever they are seen.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Any]], list[Any]],
        specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
        memory: TorchMemory,
        gpu: int,
        inputs: Sequence[Array | DeviceArray],
        lane: Lane,
    ) -> None:
        self._run = run
        self._takes, self._gives = specs
        self._memory = memory
        self._gpu = gpu
        self._lane = lane
        self._room = DeviceTensors(lane)
        self._arrays = [contiguous(array) for array in inputs]
        self._results: list[Array] = []
        self._held: list[Any] = []  # what is copied from must live until it is
        self._computed: Any = None
        self._copied: Any = None
        with settled(lane.stream):
            self._tensors = [
                self._arriving(array, spec.datatype)
                for array, spec in zip(self._arrays, self._takes, strict=True)
            ]

    def launch(self, scratch: DeviceBuffer | None) -> None:  # noqa: ARG002 - PyTorch has its own
        """Queue the model, and copies of its outputs; see `Execution`."""
        stream = self._lane.stream
        with settled(stream):
            self._held = self._run(self._tensors)
            self._computed = stream.record()
            self._results = [
                self._room.copy_out(tensor.data_ptr(), spec.datatype.numpy, tensor.shape, spill=True)
                for tensor, spec in zip(self._held, self._gives, strict=True)
            ]
            self._copied = stream.record()

    def wait(self) -> None:
        """Wait for the model; see `Execution`."""
        with settled(self._lane.stream):
            self._computed.sync()

    def outputs(self) -> list[Array]:
        """Wait for the copies; see `Execution`."""
        with settled(self._lane.stream):
            self._copied.sync()
        self._held, self._tensors, self._arrays = [], [], []
        return self._results

    def _arriving(self, array: Array | DeviceArray, datatype: DataType) -> Any:
        """Queue the copy of an input and return its tensor: on the lane's memory, if there is room."""
        stream = self._lane.stream
        with self._memory.on(stream):
            try:
                address = self._room.copy_in(array)
            except MemoryError:
                tensor = torch_module().empty(array.shape, dtype=dtype_of(datatype), device=self._memory.name)
                queue_copy_in(stream, tensor.data_ptr(), array)
                return tensor
            return self._memory.view(
                DeviceArray(address, array.shape, datatype, gpu=self._gpu, stream=stream)
            )
