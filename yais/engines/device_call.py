"""One call of a function that works on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from yais.core.tensor import TensorSpec
from yais.engines.device_tensors import DeviceTensors
from yais.engines.engine import Array
from yais.lane import Lane
from yais.memory.cuda.settled import settled
from yais.memory.device_array import DeviceArray
from yais.memory.device_buffer import DeviceBuffer

if TYPE_CHECKING:
    from yais.memory.cuda.stream import CudaStream

__all__ = ["DeviceCall", "DeviceFunction"]

DeviceFunction = Callable[
    [Sequence[DeviceArray], Sequence[DeviceArray], "CudaStream", "DeviceBuffer | None"], None
]
"""Queues work on the stream that reads the inputs and fills the outputs: arrays of concrete shapes that are
valid until then. The last argument is activation memory, None if none was asked for. It runs on a thread on
which the GPU is current, and should not wait for the stream; several threads call it at once, with arrays,
streams and activation memory of their own. What it raises fails the request."""


class DeviceCall:
    """One call; see `yais.engines.engine.Execution`. Making it queues the copies of the inputs.

    Parameters
    ----------
    function
        What to call.
    arrays
        The inputs, C-contiguous.
    inputs, outputs
        What they are called, and what the function is to fill, with concrete shapes.
    wanted
        Which of the outputs are copied to the host, in this order.
    lane
        With the stream and the memory.

    Raises
    ------
    MemoryError
        The lane has too little device memory, or, from `launch`, staging memory.
    """

    def __init__(
        self,
        function: DeviceFunction,
        arrays: Sequence[Array | DeviceArray],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        wanted: Sequence[int],
        lane: Lane,
    ) -> None:
        self._function = function
        self._arrays = arrays  # until they are copied
        self._wanted = wanted
        self._lane = lane
        self._tensors = DeviceTensors(lane)
        self._computed: Any = None
        self._results: list[Array] = []
        with settled(lane.stream):
            self._inputs = [
                self._at(self._tensors.copy_in(array), spec)
                for array, spec in zip(arrays, inputs, strict=True)
            ]
            self._outputs = [self._at(self._tensors.reserve(spec.nbytes), spec) for spec in outputs]

    def launch(self, scratch: DeviceBuffer | None) -> None:
        """Call the function, and queue copies of the outputs; see `Execution`."""
        stream = self._lane.stream
        with settled(stream):
            self._function(self._inputs, self._outputs, stream, scratch)
            self._computed = stream.record()
            self._results = [
                self._tensors.copy_out(array.address, array.dtype, array.shape)
                for array in (self._outputs[index] for index in self._wanted)
            ]

    def wait(self) -> None:
        """Wait until the function's work is done; see `Execution`."""
        with settled(self._lane.stream):
            self._computed.sync()

    def outputs(self) -> list[Array]:
        """Wait for the copies; see `Execution`."""
        self._lane.stream.sync()
        return self._results

    def _at(self, address: int, spec: TensorSpec) -> DeviceArray:
        stream = self._lane.stream
        return DeviceArray(address, spec.shape, spec.datatype, gpu=stream.device.index, stream=stream)
