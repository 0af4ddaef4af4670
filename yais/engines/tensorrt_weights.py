"""Where the weights of a plan are: what TensorRT allocates while it loads one."""

from __future__ import annotations

import logging
import threading
from typing import Any

from yais.engines.tensorrt_options import TensorRTOptions
from yais.engines.tensorrt_runtime import TensorRTRuntime
from yais.errors import InvalidArgument
from yais.memory.cuda.device import CudaDevice
from yais.memory.device_buffer import DeviceBuffer

__all__ = ["PlanAllocations", "stream_weights"]

_log = logging.getLogger("yais.tensorrt")

# The largest budget of its own that TensorRT tells in Python: 10.16, 11.4 and RTX 1.7 return 32 bits of 64.
_MOST_TOLD = (1 << 31) - 1


class PlanAllocations:
    """Memory that TensorRT asks for: managed while it loads a plan, of the device afterwards. Thread-safe.

    Managed weights need not all be on the GPU: what is not used moves to the host when others need the room.

    Parameters
    ----------
    device
        The GPU.
    """

    def __init__(self, device: CudaDevice) -> None:
        self._device = device
        self._loading = True
        self._buffers: dict[int, DeviceBuffer] = {}
        self._lock = threading.Lock()

    def loaded(self) -> None:
        """Have what is allocated from now on in device memory, and the weights moved to the GPU."""
        self._loading = False
        stream = self._device.stream()
        try:
            with self._lock:
                buffers = list(self._buffers.values())
            for buffer in buffers:
                buffer.prefetch(stream)  # type: ignore[attr-defined]  # they are all managed
        finally:
            stream.close()

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes, aligned to 256; 0 if there are none left. Raises nothing."""
        try:
            resource = self._device.managed() if self._loading else self._device.memory()
            buffer: DeviceBuffer = resource.allocate(size)
            with self._lock:
                self._buffers[buffer.handle] = buffer
        except Exception:
            _log.exception("TensorRT asked for %d bytes", size)
            return 0
        return buffer.handle

    def free(self, address: int) -> bool:
        """Give memory back, and return whether it was there. Raises nothing."""
        with self._lock:
            buffer = self._buffers.pop(address, None)
        if buffer is not None:
            buffer.close()
        return buffer is not None or not address

    def allocator(self, trt: Any) -> Any:
        """Return it as an `IGpuAllocator`, which has to outlive the engine."""
        allocations = self

        class _Allocator(trt.IGpuAllocator):  # type: ignore[misc]
            # All five have to be there, its documentation says; so far, those without a stream are called.
            def __init__(self) -> None:
                trt.IGpuAllocator.__init__(self)

            def allocate(self, size: int, alignment: int, flags: int) -> int:  # noqa: ARG002
                return allocations.allocate(size)

            def reallocate(self, address: int, alignment: int, size: int) -> int:  # noqa: ARG002
                return 0  # no: what is at the address stays

            def deallocate(self, address: int) -> bool:
                return allocations.free(address)

            def allocate_async(self, size: int, alignment: int, flags: int, stream: int) -> int:  # noqa: ARG002
                return allocations.allocate(size)

            def deallocate_async(self, address: int, stream: int) -> bool:  # noqa: ARG002
                return allocations.free(address)

        return _Allocator()


def stream_weights(runtime: TensorRTRuntime, engine: Any, options: TensorRTOptions) -> None:
    """Set how many bytes of weights stay on the device, before the engine has any context.

    Raises
    ------
    InvalidArgument
        The plan was not built for it, or is so large that a budget has to be given.
    Internal
        TensorRT refuses the number.
    """
    streamable = engine.streamable_weights_size
    if streamable <= 0:
        raise InvalidArgument(
            "got weights='streamed' for a plan without weights that can be streamed, expected one that was "
            "built with weight streaming"
        )
    budget = options.weight_streaming_budget
    if budget is None and streamable > _MOST_TOLD:
        raise InvalidArgument(
            f"got no weight_streaming_budget for a plan with {streamable} bytes of weights that can be "
            f"streamed, expected one: from {_MOST_TOLD + 1} bytes on TensorRT does not tell Python its choice"
        )
    if budget is None:
        budget = runtime.call(engine.get_weight_streaming_automatic_budget)
    budget = min(budget, streamable)

    def set_weight_streaming_budget() -> bool:
        engine.weight_streaming_budget_v2 = budget
        return bool(engine.weight_streaming_budget_v2 == budget)

    runtime.call(set_weight_streaming_budget)
    _log.info("%d of %d bytes of weights that can be streamed stay on the device", budget, streamable)
