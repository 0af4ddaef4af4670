"""PyTorch on a GPU: on the streams and in the memory of lanes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yais.core.tensor import TensorSpec
from yais.engines.device_tensors import DeviceTensors, batch_bytes
from yais.engines.engine import Array
from yais.engines.kinds import EngineSettings
from yais.engines.torch import TorchEngine
from yais.engines.torch_execution import TorchExecution
from yais.engines.torch_gpu import TorchGpu, TorchMemory
from yais.lane import Lane
from yais.memory.device_array import DeviceArray

__all__ = ["TorchDeviceEngine"]

_LARGEST_BATCH = 32  # where neither the settings nor the model say; a guess, since memory is planned for it


class TorchDeviceEngine(TorchEngine):
    """One PyTorch model on a GPU: a `DeviceEngine`. Thread-safe, as the model is.

    Inputs are copied to the lane's device memory, as far as they fit, and tensors made on it; all else is
    allocated by PyTorch, whose allocator keeps it for the lane's next execution. Outputs are copied to the
    lane's staging memory, or to memory of their own if they do not fit.

    Parameters
    ----------
    path, settings
        See `TorchEngine`; `gpu` is needed. `max_batch` is the batch that lanes get memory for.
    memory
        The GPU; for tests.

    Attributes
    ----------
    scratch_size
        0: PyTorch has activation memory of its own.
    device_size
        Bytes of the inputs of the largest batch; dimensions of any size count as 1.
    gpu
        The GPU.

    Raises
    ------
    InvalidArgument
        See `TorchEngine`.
    FailedPrecondition
        There is no PyTorch, or it has no such GPU.
    MemoryError
        The GPU has too little memory for the model.
    """

    scratch_size = 0
    takes_device_arrays = True

    def __init__(self, path: Path, settings: EngineSettings, *, memory: TorchMemory | None = None) -> None:
        self.gpu: int | None = settings.gpu or 0
        self._memory = memory or TorchGpu(self.gpu or 0)
        with self._errors():
            super().__init__(path, settings, device=self._memory.name)
            self._memory.synchronize()  # the weights came by another stream than those of lanes
        self._batch = settings.max_batch or min(_LARGEST_BATCH, self.max_batch or _LARGEST_BATCH)

    @property
    def device_size(self) -> int:
        """Bytes of device memory of an execution; see `DeviceEngine`."""
        return DeviceTensors.size(map(self._largest_bytes, self.inputs))

    def begin(self, inputs: Sequence[Array | DeviceArray], lane: Lane) -> TorchExecution:
        """Queue copies of the inputs; see `DeviceEngine`. Raises MemoryError and FailedPrecondition."""
        program = self._running()
        specs = (self.inputs, self.outputs)

        def run(tensors: Sequence[Any]) -> list[Any]:
            with self._errors(), self._memory.on(lane.stream), self._mode():
                return self._run(program, tensors)

        with self._errors():
            return TorchExecution(run, specs, self._memory, self.gpu or 0, inputs, lane)

    def close(self) -> None:
        """Free the model, on the GPU, too. Idempotent."""
        super().close()
        self._memory.release()

    def _largest_bytes(self, spec: TensorSpec) -> int:
        shape = (*spec.shape[:1], *self.largest.get(spec.name, spec.shape)[1:])
        return batch_bytes(TensorSpec(spec.name, spec.datatype, shape), self._batch)
