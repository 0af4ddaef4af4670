"""A function that works on a GPU, as an engine: a kernel, a PyTorch module, anything that queues work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from yais.core.tensor import TensorSpec
from yais.engines.device_call import DeviceCall, DeviceFunction
from yais.engines.device_tensors import DeviceTensors, batch_bytes, contiguous
from yais.engines.engine import Array
from yais.engines.selection import reordered
from yais.engines.single_lane import single_lane
from yais.errors import InvalidArgument
from yais.lane import Lane
from yais.memory.arena import Arena
from yais.memory.cuda.device import CudaDevice, cuda_device
from yais.memory.device_array import DeviceArray

if TYPE_CHECKING:
    from yais.memory.cuda.stream import CudaStream
    from yais.memory.device_buffer import DeviceBuffer

__all__ = ["DeviceFunction", "DeviceFunctionEngine"]

Shapes = Sequence[tuple[int, ...]]


class DeviceFunctionEngine:
    """A `DeviceEngine` of a function. Thread-safe, if the function is.

    Parameters
    ----------
    function
        See `DeviceFunction`.
    inputs, outputs
        What it takes and gives, the batch dimension included. With `max_batch`, a first dimension of -1 is
        the batch.
    gpu
        Where it works.
    max_batch
        Largest batch; 0 for a model without a batch dimension.
    scratch_size
        Bytes of activation memory.
    shapes
        Returns the shapes of the outputs for those of the inputs; needed if an output has dimensions of any
        size besides the batch.
    device_size
        Bytes of device memory of the largest batch; by default those of its inputs and outputs. Needed if
        they have dimensions of any size besides the batch.
    device
        The GPU as an object; by default the process's own (`cuda_device`).

    Raises
    ------
    InvalidArgument
        `shapes` or `device_size` are needed, or a tensor has elements of no fixed size.
    FailedPrecondition
        There is no CUDA; the message says why.

    Examples
    --------
    >>> def double(inputs, outputs, stream, scratch):
    ...     with torch.cuda.stream(torch.cuda.ExternalStream(stream.handle, device="cuda:0")):
    ...         torch.mul(torch.from_dlpack(inputs[0]), 2, out=torch.from_dlpack(outputs[0]))
    >>> manager.register("double", DeviceFunctionEngine(double, [x], [y], max_batch=8), max_batch_size=8)
    """

    takes_device_arrays = True

    def __init__(
        self,
        function: DeviceFunction,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        gpu: int = 0,
        max_batch: int = 0,
        scratch_size: int = 0,
        shapes: Callable[[Shapes], Shapes] | None = None,
        device_size: int | None = None,
        device: CudaDevice | None = None,
    ) -> None:
        for spec in (*inputs, *outputs):
            if not spec.datatype.size:
                raise InvalidArgument(f"got {spec}, expected elements of a fixed size")
        if shapes is None and (unknown := _open(outputs, max_batch)):
            raise InvalidArgument(f"got {unknown}, expected shapes= to tell its size")
        if device_size is None and (unknown := _open((*inputs, *outputs), max_batch)):
            raise InvalidArgument(f"got {unknown}, expected device_size= to tell how much memory it takes")
        self.gpu: int | None = gpu
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.scratch_size = scratch_size
        self._function = function
        self._max_batch = max_batch
        self._shapes = shapes
        self._order = list(range(len(self.inputs)))  # of what is given, for what the function takes
        self._wanted = list(range(len(self.outputs)))  # of what the function gives
        self._takes, self._gives = self.inputs, self.outputs
        largest = DeviceTensors.size(batch_bytes(spec, max_batch) for spec in (*inputs, *outputs))
        self.device_size = largest if device_size is None else device_size
        self._device = device or cuda_device(gpu)

    def __repr__(self) -> str:
        name = getattr(self._function, "__qualname__", type(self._function).__name__)
        return f"<DeviceFunctionEngine {name} on GPU {self.gpu}>"

    def select(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Fix the order of inputs and outputs; see `Engine`. Raises InvalidArgument."""
        self.inputs, self.outputs = reordered(self._takes, self._gives, inputs, outputs)
        self._order = [self.inputs.index(spec) for spec in self._takes]
        self._wanted = [self._gives.index(spec) for spec in self.outputs]

    def execute(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run the function on a lane of this call's own; see `Engine`. It takes longer than an execution."""
        arrays = [np.asarray(array, order="C") for array in inputs]
        results = self._results(arrays)
        tensors = [array.nbytes for array in arrays] + [result.nbytes for result in results]
        with single_lane(
            self._device,
            device=DeviceTensors.size(tensors),
            staging=sum(Arena.padded(result.nbytes) for result in results),
            scratch=self.scratch_size,
        ) as (lane, scratch):
            execution = self.begin(arrays, lane)
            execution.launch(scratch)
            execution.wait()
            return [array.copy() for array in execution.outputs()]

    def begin(self, inputs: Sequence[Array | DeviceArray], lane: Lane) -> DeviceCall:
        """Queue copies of the inputs; see `DeviceEngine`."""
        arrays = [contiguous(array) for array in inputs]
        inputs_of = [
            TensorSpec(spec.name, spec.datatype, array.shape)
            for spec, array in zip(self.inputs, arrays, strict=True)
        ]
        return DeviceCall(self._call, arrays, inputs_of, self._results(arrays), self._wanted, lane)

    def close(self) -> None:
        """Do nothing: the function is the caller's. Idempotent."""

    def _call(
        self,
        inputs: Sequence[DeviceArray],
        outputs: Sequence[DeviceArray],
        stream: CudaStream,
        scratch: DeviceBuffer | None,
    ) -> None:
        self._device.activate()
        given = scratch if self.scratch_size else None
        self._function([inputs[index] for index in self._order], outputs, stream, given)

    def _results(self, inputs: Sequence[Array | DeviceArray]) -> list[TensorSpec]:
        """Return what the function is to fill, with concrete shapes; those not wanted, too."""
        shapes = [inputs[index].shape for index in self._order]
        if self._shapes is not None:
            made = self._shapes(shapes)
        else:
            batches = [
                shape[0]
                for shape, spec in zip(shapes, self._takes, strict=True)
                if self._batched(spec) and shape
            ]
            made = [self._with_batch(spec, batches[0] if batches else 1) for spec in self._gives]
        return [
            TensorSpec(spec.name, spec.datatype, tuple(shape))
            for spec, shape in zip(self._gives, made, strict=True)
        ]

    def _batched(self, spec: TensorSpec) -> bool:
        return self._max_batch > 0 and spec.shape[:1] == (-1,)

    def _with_batch(self, spec: TensorSpec, batch: int) -> tuple[int, ...]:
        return (batch, *spec.shape[1:]) if self._batched(spec) else spec.shape


def _open(specs: Sequence[TensorSpec], max_batch: int) -> TensorSpec | None:
    """Return a tensor whose size does not follow from the batch."""
    for spec in specs:
        if -1 in spec.shape[1:] or (not max_batch and -1 in spec.shape):
            return spec
    return None
