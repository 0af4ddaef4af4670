"""The execution contexts of a fake TensorRT, which check what the real one would crash on."""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from yais.engines.engine import Array
from yais.testing.tensorrt_network import FakeTensor, Shape

if TYPE_CHECKING:
    from yais.testing.tensorrt import FakeTensorRT
    from yais.testing.tensorrt_engine import FakeEngine

__all__ = ["FakeContext", "FakeExecution"]

_ALIGNMENT = 256  # bytes, of addresses on the device


@dataclass(frozen=True, slots=True, eq=False)
class FakeExecution:
    """What one execution uses: shapes and addresses of its tensors by name, and activation memory.

    `on_host` are the outputs on the host, which follow from what TensorRT has been told when it is queued.
    """

    shapes: Mapping[str, Shape]
    addresses: Mapping[str, int]
    scratch: tuple[int, int]
    on_host: Mapping[str, Array] = field(default_factory=dict)

    def shares(self, other: FakeExecution) -> bool:
        """Whether the two have bytes of activation memory in common."""
        (start, size), (begin, length) = self.scratch, other.scratch
        return start < begin + length and begin < start + size


class FakeContext:
    """IExecutionContext: runs a network, one execution at a time."""

    _fake: FakeTensorRT

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._profile = 0
        self._shapes: dict[str, Shape] = {}
        self._addresses: dict[str, int] = {}
        self._scratch = (0, 0)
        self._warm = False  # executed with these shapes, and so fit for a capture
        self._running: Any = None
        self._fake._lives("context", self)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """Choose a profile, and forget all shapes."""
        self._check_idle("set_optimization_profile_async")
        if not self._goes("set_optimization_profile_async") or stream_handle == 0:
            return False
        if not 0 <= profile_index < len(self._engine._network.profiles):
            return self._refuse(
                "setOptimizationProfileAsync: Parameter check failed, condition: profileIndex"
            )
        self._profile = profile_index
        self._shapes.clear()
        self._warm = False
        return True

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        """Set the shape of an input, within the profile."""
        self._check_idle("set_input_shape")
        if not self._goes("set_input_shape"):
            return False
        low, _, high = self._engine._network.range_of(self._profile, name)
        given = tuple(shape)
        if len(given) != len(low) or any(
            not least <= size <= most for least, size, most in zip(low, given, high, strict=True)
        ):
            return self._refuse(
                f"setInputShape: Error Code 3: API Usage (Set dimension {list(given)} for tensor {name} "
                f"does not satisfy any optimization profiles. Valid range for profile {self._profile}: "
                f"{list(low)}..{list(high)}.)"
            )
        if self._shapes.get(name) != given:
            self._shapes[name] = given
            self._warm = False
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """Set where a tensor is; null, as at first, for nowhere."""
        self._check_idle("set_tensor_address")
        if not self._goes("set_tensor_address"):
            return False
        if not memory:
            self._addresses.pop(name, None)
            return True
        self._addresses[name] = memory
        return True

    def set_device_memory(self, memory: int, size: int) -> None:
        """Set the activation memory."""
        self._check_idle("set_device_memory")
        if not self._goes("set_device_memory"):
            return
        if memory % _ALIGNMENT:
            self._fake._problem(f"activation memory at {memory:#x} is not aligned to {_ALIGNMENT}")
        if size < self._engine.device_memory_size_v2:
            self._refuse(f"setDeviceMemoryV2: got {size} of {self._engine.device_memory_size_v2} bytes")
            return
        self._scratch = (memory, size)

    def infer_shapes(self) -> list[str]:
        """Return the inputs of which something is missing; write outputs on the host that have an address."""
        self._check_idle("infer_shapes")
        if not self._goes("infer_shapes"):
            raise RuntimeError("shape inference failed")
        network = self._engine._network
        missing = [
            tensor.name
            for tensor in network.inputs
            if tensor.name not in self._shapes or (tensor.host and tensor.name not in self._addresses)
        ]
        for name, (low, _, high) in network.profiles[self._profile].values.items():
            values = self._host(network.tensor(name)).ravel().tolist() if name not in missing else []
            if any(not least <= v <= most for least, v, most in zip(low, values, high, strict=False)):
                self._refuse(f"inferShapes: the values {values} of {name} are out of the profile")
                raise RuntimeError("shape inference failed")
        if not missing:
            self._set_host_outputs(self._execution())
        return missing

    def get_tensor_shape(self, name: str) -> Shape:
        """Return the shape of a tensor, with -1 for what is not known."""
        network = self._engine._network
        if network.is_input(name):
            return self._shapes.get(name, network.tensor(name).shape)
        if any(tensor.name not in self._shapes for tensor in network.inputs):
            return network.tensor(name).shape
        return self._all_shapes()[name]

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Queue an execution."""
        if not self._goes("execute_async_v3"):
            return False
        fake, network = self._fake, self._engine._network
        unset = [tensor.name for tensor in network.tensors if tensor.name not in self._addresses]
        unshaped = [tensor.name for tensor in network.inputs if tensor.name not in self._shapes]
        if unset or unshaped:
            return self._refuse(
                f"enqueueV3: Error Code 3: addresses of {unset}, shapes of {unshaped} missing"
            )
        if self._engine.device_memory_size_v2 and not self._scratch[0]:
            return self._refuse("enqueueV3: Error Code 3: the context has no device memory")
        if fake._on_gpu() != self._engine._gpu:
            fake._problem("an execution was queued while another GPU was current")
        execution = self._execution()
        self._check_memory(execution)
        self._running = fake._submit(self, execution, stream_handle)
        return True

    def _run(self, execution: FakeExecution) -> None:
        """Compute, when the stream has got there."""
        fake, network = self._fake, self._engine._network
        try:
            self._engine._weights_there()
            if execution.scratch[1]:
                np.frombuffer(fake.cuda.view(*execution.scratch), np.uint8)[:] = 0xA5
            arrays = [self._array(tensor, execution).copy() for tensor in network.inputs]
            for tensor, result in zip(network.outputs, network.function(*arrays), strict=True):
                if not tensor.host:
                    self._array(tensor, execution)[...] = result
            self._set_host_outputs(execution)
        except ValueError as error:  # memory that is not there
            fake._problem(f"an execution failed: {error}")
            raise

    def _execution(self) -> FakeExecution:
        """Return what an execution would be now."""
        network, shapes = self._engine._network, self._all_shapes()
        on_host: dict[str, Array] = {}
        if any(tensor.host for tensor in network.outputs):
            blank = [
                self._host(each).copy() if each.host else np.zeros(shapes[each.name], each.numpy)
                for each in network.inputs
            ]
            results = zip(network.outputs, network.function(*blank), strict=True)
            on_host = {tensor.name: result for tensor, result in results if tensor.host}
        return FakeExecution(shapes, dict(self._addresses), self._scratch, on_host)

    def _set_host_outputs(self, execution: FakeExecution) -> None:
        for name, result in execution.on_host.items():
            if name in execution.addresses:
                self._host(self._engine._network.tensor(name), execution)[...] = result

    def _check_memory(self, execution: FakeExecution) -> None:
        """Report memory that an execution must not have."""
        pieces = []
        for tensor in self._engine._network.tensors:
            address = execution.addresses[tensor.name]
            if tensor.host:
                continue
            if address % _ALIGNMENT:
                self._fake._problem(f"'{tensor.name}' at {address:#x} is not aligned to {_ALIGNMENT}")
            pieces.append((tensor.name, address, self._nbytes(tensor, execution)))
        if self._engine.device_memory_size_v2:
            pieces.append(("activations", *execution.scratch))
        pieces.sort(key=lambda piece: piece[1])
        for name, address, size in pieces:
            try:
                self._fake.cuda.view(address, size)
            except ValueError as error:
                self._fake._problem(f"'{name}': {error}")
        for (name, address, size), (other, start, more) in itertools.pairwise(pieces):
            if size and more and address + size > start:
                self._fake._problem(f"'{name}' and '{other}' share memory")

    @property
    def _busy(self) -> bool:
        return self._running is not None and not self._running.done()

    def _check_idle(self, call: str) -> None:
        if self._busy:
            self._fake._problem(f"{call} on a context whose execution is not over")

    def _goes(self, call: str) -> bool:
        return self._fake._goes(call, self._engine._logger)

    def _refuse(self, message: str) -> bool:
        self._fake._error(self._engine._logger, f"IExecutionContext::{message}")
        return False

    def _all_shapes(self) -> dict[str, Shape]:
        network = self._engine._network
        values = {tensor.name: self._host(tensor) for tensor in network.inputs if tensor.host}
        return {**self._shapes, **network.shapes_of_outputs(self._shapes, values)}

    def _nbytes(self, tensor: FakeTensor, execution: FakeExecution) -> int:
        return math.prod(execution.shapes[tensor.name]) * tensor.numpy.itemsize

    def _array(self, tensor: FakeTensor, execution: FakeExecution) -> Array:
        if tensor.host:
            return self._host(tensor, execution)
        size = self._nbytes(tensor, execution)
        view = self._fake.cuda.view(execution.addresses[tensor.name], size) if size else bytearray()
        return np.frombuffer(view, tensor.numpy).reshape(execution.shapes[tensor.name])

    def _host(self, tensor: FakeTensor, execution: FakeExecution | None = None) -> Array:
        shapes, addresses = (
            (execution.shapes, execution.addresses) if execution else (self._shapes, self._addresses)
        )
        size = math.prod(shapes[tensor.name]) * tensor.numpy.itemsize
        memory = memoryview((ctypes.c_ubyte * size).from_address(addresses[tensor.name]))
        return np.frombuffer(memory, tensor.numpy).reshape(shapes[tensor.name])
