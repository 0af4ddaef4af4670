"""Execution contexts: what runs a plan, one execution at a time each."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from yais.engines.tensorrt_graphs import GraphCounts, PlanGraphs
from yais.engines.tensorrt_profiles import Form, Shape
from yais.engines.tensorrt_runtime import TensorRTRuntime
from yais.engines.tensorrt_tensors import PlanTensor
from yais.errors import Internal, InvalidArgument
from yais.memory.cuda.stream import CudaStream
from yais.memory.device_buffer import DeviceBuffer

__all__ = ["PlanContext"]

_REMEMBERED = 64  # forms whose outputs are known without asking TensorRT


class PlanContext:
    """One execution context of a plan. Whoever has borrowed it has it alone.

    Parameters
    ----------
    runtime, native, tensors
        The TensorRT, its IExecutionContext without memory of its own, and the plan's tensors.
    graphs
        Counts the CUDA graphs; None for an engine without.

    Attributes
    ----------
    form
        What TensorRT was told of last.
    """

    def __init__(
        self,
        runtime: TensorRTRuntime,
        native: Any,
        tensors: Sequence[PlanTensor],
        graphs: GraphCounts | None = None,
    ) -> None:
        self._runtime = runtime
        self._native = native
        self._outputs = [tensor.name for tensor in tensors if not tensor.is_input]
        self._host_outputs = [tensor.name for tensor in tensors if tensor.on_host and not tensor.is_input]
        self._graphs = PlanGraphs(graphs) if graphs is not None else None
        self.form: Form | None = None
        self._profile: int | None = None
        self._addresses: dict[str, int] = {}
        self._known: collections.OrderedDict[Form, Mapping[str, Shape]] = collections.OrderedDict()

    def outputs(self, form: Form, stream: CudaStream) -> Mapping[str, Shape]:
        """Return the shapes that the outputs will have; `stream` is for a change of profile.

        Raises
        ------
        InvalidArgument
            The size of an output depends on the data.
        Internal
            TensorRT refuses the form.
        """
        known = self._known.get(form)
        if known is None:
            self._tell(form, stream)
            known = {name: tuple(self._native.get_tensor_shape(name)) for name in self._outputs}
            for name, shape in known.items():
                if -1 in shape:
                    raise InvalidArgument(
                        f"output '{name}' of the plan has a size that depends on the data ({list(shape)}), "
                        "which is not supported: its memory is reserved before"
                    )
            self._known[form] = known
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return known

    def execute(
        self, form: Form, addresses: Mapping[str, int], scratch: DeviceBuffer | None, stream: CudaStream
    ) -> None:
        """Queue an execution on a stream.

        Parameters
        ----------
        form
            Of the inputs.
        addresses
            Of all tensors on the device, and of outputs on the host, by name.
        scratch
            Activation memory, as large as the plan needs; None for a plan that needs none.

        Raises
        ------
        Internal
            TensorRT fails; work of it may be on the stream.
        """
        memory = (scratch.handle, scratch.size) if scratch is not None else None
        key = (tuple(addresses.values()), memory)
        if self._graphs is not None and form == self.form and self._graphs.launch(key, stream):
            return
        self._tell(form, stream)
        self._bind(addresses)
        if memory is not None:
            self._runtime.do(self._native.set_device_memory, *memory)

        def queue() -> None:
            self._runtime.call(self._native.execute_async_v3, stream.handle)

        queue()
        if self._graphs is not None:
            self._graphs.executed(key, stream, queue)

    def close(self) -> None:
        """Free it. It may not be executing. Idempotent."""
        if self._graphs is not None:
            self._graphs.forget()
        self._native = None

    def _tell(self, form: Form, stream: CudaStream) -> None:
        """Tell TensorRT the shapes of an execution, unless they are those of the one before."""
        if form == self.form:
            return
        call, native = self._runtime.call, self._native
        self.form = None
        if self._graphs is not None:
            self._graphs.forget()
        for name in self._host_outputs:  # infer_shapes writes where they have an address: an earlier answer's
            self._addresses.pop(name, None)
            call(native.set_tensor_address, name, 0)
        if form.profile != self._profile:
            self._profile = None
            self._addresses.clear()
            call(native.set_optimization_profile_async, form.profile, stream.handle)
            self._profile = form.profile
        for name, shape in form.shapes:
            call(native.set_input_shape, name, shape)
        for name, shape, values in form.values:
            call(native.set_input_shape, name, shape)
            call(native.set_tensor_address, name, _address(values))
        missing = call(native.infer_shapes)
        if missing:
            raise Internal(f"TensorRT lacks the shapes of {', '.join(missing)} for {form}")
        self.form = form  # keeps the values alive that TensorRT has addresses of

    def _bind(self, addresses: Mapping[str, int]) -> None:
        for name, address in addresses.items():
            if self._addresses.get(name) != address:
                self._addresses.pop(name, None)
                self._runtime.call(self._native.set_tensor_address, name, address)
                self._addresses[name] = address


def _address(values: bytes) -> int:
    return int(np.frombuffer(values or bytes(8), np.uint8).ctypes.data)
