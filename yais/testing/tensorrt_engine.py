"""The runtime and the engines of a fake TensorRT."""

from __future__ import annotations

import contextlib
import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

from yais.memory.cuda.error import CudaError
from yais.testing.tensorrt_context import FakeContext
from yais.testing.tensorrt_enums import (
    DataType,
    EngineCapability,
    EngineStat,
    ExecutionContextAllocationStrategy,
    TensorIOMode,
    TensorLocation,
)
from yais.testing.tensorrt_network import FakeNetwork, Shape

if TYPE_CHECKING:
    from yais.testing.tensorrt import FakeTensorRT

__all__ = ["FakeEngine", "FakeGpuAllocator", "FakeLogger", "FakeRuntime"]


class FakeLogger:
    """ILogger: what is logged goes to `log`, which a class of one's own overrides."""

    def __init__(self) -> None:
        self._made = True

    def log(self, severity: Any, message: str) -> None:  # noqa: ARG002
        """Refuse, as the real one does without an override."""
        raise RuntimeError('Tried to call pure virtual function "nvinfer1::ILogger::log"')


class FakeGpuAllocator:
    """IGpuAllocator: allocates what TensorRT asks for."""

    def __init__(self) -> None:
        self._made = True

    def reallocate(self, address: int, alignment: int, size: int) -> int:  # noqa: ARG002
        """Refuse, as `FakeLogger.log`."""
        raise RuntimeError("IGpuAllocator.reallocate is not overridden")

    def allocate_async(self, size: int, alignment: int, flags: int, stream: int) -> int:  # noqa: ARG002
        """Refuse, as `FakeLogger.log`."""
        raise RuntimeError("IGpuAllocator.allocate_async is not overridden")

    def deallocate_async(self, address: int, stream: int) -> bool:  # noqa: ARG002
        """Refuse, as `FakeLogger.log`."""
        raise RuntimeError("IGpuAllocator.deallocate_async is not overridden")


class FakeRuntime:
    """Runtime: makes engines of plans."""

    _fake: FakeTensorRT  # set in a class of its own for each fake

    def __init__(self, logger: Any) -> None:
        if not getattr(logger, "_made", False):
            raise TypeError("ILogger.__init__() must be called when overriding __init__")
        self._logger = logger
        self._allocator: Any = None
        self._fake._lives("runtime", self)

    @property
    def gpu_allocator(self) -> Any:
        """Where memory comes from."""
        return self._allocator

    @gpu_allocator.setter
    def gpu_allocator(self, allocator: Any) -> None:
        if not getattr(allocator, "_made", False):
            raise TypeError("IGpuAllocator.__init__() must be called when overriding __init__")
        self._allocator = allocator

    def deserialize_cuda_engine(self, serialized_engine: Any) -> FakeEngine | None:
        """Return the engine of a plan; None, and errors in the log, if there is none."""
        fake = self._fake
        network, reason = fake._read(bytes(serialized_engine[:]))
        if not fake._goes("deserialize_cuda_engine", self._logger):
            return None
        if network is None or not fake._on_gpu():
            fake._error(
                self._logger, f"IRuntime::deserializeCudaEngine: Error Code 1: {reason or 'no device'}"
            )
            return None
        address = self._allocate(network.weights) if network.weights else 0
        if address is None:
            fake._error(self._logger, "IRuntime::deserializeCudaEngine: Error Code 2: OutOfMemory (weights)")
            return None
        return fake.module.ICudaEngine(self, network, address)  # type: ignore[no-any-return]

    def _allocate(self, size: int) -> int | None:
        if self._allocator is not None:
            return self._allocate_there(size) or None
        try:
            return int(self._fake.cuda.toolkit.call("cuMemAlloc", size))
        except (MemoryError, CudaError):
            return None

    def _allocate_there(self, size: int) -> int:
        # All versions call this, also those whose base class has only `allocate_async`.
        return int(self._allocator.allocate(size, 256, 0))


class FakeEngine:
    """ICudaEngine: a network on a GPU."""

    _fake: FakeTensorRT

    def __init__(self, runtime: FakeRuntime, network: FakeNetwork, weights: int) -> None:
        self._runtime = runtime  # which it keeps alive, as the real one does
        self._logger = runtime._logger
        self._allocator = runtime._allocator
        self._network = network
        self._weights = weights
        self._gpu = self._fake._on_gpu()
        self._budget = network.streamable
        self._contexts = 0
        self._fake._lives("engine", self)

    def __del__(self) -> None:
        if self._weights:
            with contextlib.suppress(Exception):  # the GPU is closed: what it held, it says itself
                if self._allocator is None:
                    self._fake.cuda.toolkit.call("cuMemFree", self._weights)
                else:
                    self._allocator.deallocate(self._weights)

    @property
    def num_io_tensors(self) -> int:
        """How many tensors there are."""
        return len(self._network.tensors)

    @property
    def num_optimization_profiles(self) -> int:
        """How many profiles there are."""
        return len(self._network.profiles)

    @property
    def device_memory_size_v2(self) -> int:
        """Bytes of activation memory, and what streaming the weights takes."""
        network = self._network
        return network.scratch + (network.streamable - self._budget)

    @property
    def refittable(self) -> bool:
        """Whether weights can be put in."""
        return self._network.stripped >= 0

    @property
    def engine_capability(self) -> EngineCapability:
        """What it is for."""
        return EngineCapability[self._network.capability]

    @property
    def streamable_weights_size(self) -> int:
        """Bytes of weights that can be streamed."""
        return self._network.streamable

    @property
    def weight_streaming_budget_v2(self) -> int:
        """Bytes of them that stay on the device."""
        return self._budget

    @weight_streaming_budget_v2.setter
    def weight_streaming_budget_v2(self, budget: int) -> None:
        if self._contexts:
            self._fake._error(self._logger, "setWeightStreamingBudgetV2: there are active execution contexts")
        elif budget < 0:
            self._fake._error(self._logger, f"setWeightStreamingBudgetV2: got {budget}")
        elif self._fake._goes("weight_streaming_budget_v2", self._logger):
            self._budget = min(budget, self._network.streamable)

    def get_weight_streaming_automatic_budget(self) -> int:
        """Return a budget that it finds good, half of them, in 32 bits as the real bindings do."""
        return ctypes.c_int32(self._network.streamable // 2).value

    def get_tensor_name(self, index: int) -> str:
        """Return the name of a tensor."""
        return self._network.tensors[index].name

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        """Return whether a tensor is an input."""
        return TensorIOMode.INPUT if self._network.is_input(name) else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        """Return the type of its elements."""
        return DataType[self._network.tensor(name).dtype]

    def get_tensor_shape(self, name: str) -> Shape:
        """Return its shape, with -1 for what is not fixed."""
        return self._network.tensor(name).shape

    def get_tensor_location(self, name: str) -> TensorLocation:
        """Return where it is."""
        return TensorLocation.HOST if self._network.tensor(name).host else TensorLocation.DEVICE

    def get_tensor_format_desc(self, name: str, profile_index: int = 0) -> str:  # noqa: ARG002
        """Return its format in words."""
        return self._network.tensor(name).format

    def get_tensor_vectorized_dim(self, name: str, profile_index: int = 0) -> int:  # noqa: ARG002
        """Return which dimension is vectorized."""
        return self._network.tensor(name).vectorized

    def get_aliased_input_tensor(self, name: str) -> str | None:
        """Return the input whose memory an output shares."""
        return self._network.tensor(name).alias

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Shape]:
        """Return the smallest, usual and largest shape of an input."""
        return list(self._network.range_of(profile_index, name))

    def get_tensor_profile_values(self, name: int, profile_index: str) -> list[list[int]]:
        """Return values; the arguments have each other's names, as in the real bindings."""
        values = self._network.profiles[name].values.get(profile_index, ())
        return [list(each) for each in values]

    def get_engine_stat(self, stat: EngineStat) -> int:
        """Return a statistic."""
        network = self._network
        return network.stripped if stat is EngineStat.STRIPPED_WEIGHTS_SIZE else network.weights

    def create_execution_context(
        self, strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC
    ) -> FakeContext | None:
        """Return a new context."""
        if strategy is not ExecutionContextAllocationStrategy.USER_MANAGED:
            self._fake._problem(f"a context was made with {strategy}, which allocates its own memory")
        if not self._fake._goes("create_execution_context", self._logger):
            return None
        self._contexts += 1
        return self._fake.module.IExecutionContext(self)  # type: ignore[no-any-return]

    def _weights_there(self) -> None:
        """Touch the weights, as an execution does."""
        if self._weights:
            np.frombuffer(self._fake.cuda.view(self._weights, self._network.weights), np.uint8)[-1:].sum()
