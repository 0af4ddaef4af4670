"""One execution of a plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from yais.engines.device_tensors import DeviceTensors, contiguous
from yais.engines.engine import Array
from yais.engines.tensorrt_context import PlanContext
from yais.engines.tensorrt_contexts import PlanContexts
from yais.engines.tensorrt_profiles import PlanProfile, admitting
from yais.engines.tensorrt_tensors import PlanTensor
from yais.errors import FailedPrecondition, InvalidArgument
from yais.lane import Lane
from yais.memory.cuda.device import CudaDevice
from yais.memory.cuda.event import CudaEvent
from yais.memory.cuda.settled import settled
from yais.memory.device_array import DeviceArray
from yais.memory.device_buffer import DeviceBuffer

__all__ = ["PlanCall", "TensorRTExecution"]


@dataclass(frozen=True, slots=True, eq=False)
class PlanCall:
    """What the executions of an engine have in common.

    Attributes
    ----------
    device
        The GPU.
    contexts
        Of the plan.
    profiles
        That may be used.
    inputs
        Of the plan, in the order in which they are given.
    outputs
        Of the plan, those that are wanted first, in their order.
    wanted
        How many of the outputs are wanted.
    scratch_size
        Bytes of activation memory.
    """

    device: CudaDevice
    contexts: PlanContexts
    profiles: Sequence[PlanProfile]
    inputs: Sequence[PlanTensor]
    outputs: Sequence[PlanTensor]
    wanted: int
    scratch_size: int

    def named(self, arrays: Sequence[Array | DeviceArray]) -> dict[str, Array | DeviceArray]:
        """Return inputs by name, checked. Raises InvalidArgument."""
        if len(arrays) != len(self.inputs):
            raise InvalidArgument(f"got {len(arrays)} inputs, expected {len(self.inputs)}")
        for tensor, array in zip(self.inputs, arrays, strict=True):
            if array.dtype != tensor.datatype.numpy:
                raise InvalidArgument(
                    f"got {array.dtype} for input '{tensor.name}', expected {tensor.datatype.numpy}"
                )
        pairs = zip(self.inputs, arrays, strict=True)
        return {tensor.name: contiguous(array) for tensor, array in pairs}


class TensorRTExecution:
    """One execution; see `yais.engines.engine.Execution`. One thread at a time.

    Making it queues the copies of the inputs.

    Parameters
    ----------
    call
        Of the engine.
    inputs
        Arrays in the order of the engine's inputs; those that shapes are computed from on the host.
    lane
        With a `CudaStream` of the engine's GPU.

    Raises
    ------
    InvalidArgument
        No profile admits the inputs, or they have wrong types.
    FailedPrecondition
        The lane is not on the engine's GPU.
    MemoryError
        The lane has too little device memory.
    """

    def __init__(self, call: PlanCall, inputs: Sequence[Array | DeviceArray], lane: Lane) -> None:
        self._call = call
        self._lane = lane
        self._inputs = call.named(inputs)  # alive until the end: the copies read them when they run
        self._form = admitting(call.profiles, self._inputs).form(self._inputs)
        self._context: PlanContext | None = None
        self._computed: CudaEvent | None = None
        self._copied: CudaEvent | None = None
        self._results: list[Array] = []
        self._on_host: dict[str, Array] = {}  # alive until TensorRT has written them, wanted or not
        _check_lane(call, lane)
        call.device.activate()
        self._tensors = DeviceTensors(lane)
        self._addresses: dict[str, int] = {}
        with settled(lane.stream):
            for name, _ in self._form.shapes:
                self._addresses[name] = self._tensors.copy_in(self._inputs[name])

    def launch(self, scratch: DeviceBuffer | None) -> None:
        """Queue the execution and the copies of its outputs; see `Execution`.

        Raises
        ------
        MemoryError
            The activation memory, or the lane's, is too small.
        Internal
            TensorRT or CUDA fails.
        """
        call = self._call
        call.device.activate()
        try:
            with settled(self._lane.stream):
                scratch = _checked(scratch, call.scratch_size)
                self._context = call.contexts.borrow(self._form)
                self._enqueue(self._context, scratch)
        except BaseException:
            self._computed = self._copied = None
            self._give_back()
            raise

    def wait(self) -> None:
        """Wait until the engine is done; see `Execution`."""
        if self._computed is None:
            raise FailedPrecondition("the execution was not launched, or is waited for already")
        try:
            with settled(self._lane.stream):
                self._computed.sync()
        finally:
            self._computed = None
            self._give_back()

    def outputs(self) -> Sequence[Array]:
        """Wait for the outputs; see `Execution`."""
        if self._copied is None:
            raise FailedPrecondition("the execution was not launched, or its outputs are taken already")
        try:
            with settled(self._lane.stream):
                self._copied.sync()
        finally:
            self._copied = None
            self._inputs, self._on_host = {}, {}
        return self._results

    def _enqueue(self, context: PlanContext, scratch: DeviceBuffer | None) -> None:
        call, stream, tensors = self._call, self._lane.stream, self._tensors
        shapes = context.outputs(self._form, stream)
        on_host = self._on_host = {
            each.name: np.empty(shapes[each.name], each.datatype.numpy)
            for each in call.outputs
            if each.on_host
        }
        addresses = dict(self._addresses)
        for each in call.outputs:
            if each.on_host:
                addresses[each.name] = int(on_host[each.name].ctypes.data)
            else:
                addresses[each.name] = tensors.reserve(math.prod(shapes[each.name]) * each.datatype.size)
        context.execute(self._form, addresses, scratch, stream)
        self._computed = stream.record()
        for each in call.outputs[: call.wanted]:
            name = each.name
            self._results.append(
                on_host[name]
                if each.on_host
                else tensors.copy_out(addresses[name], each.datatype.numpy, shapes[name])
            )
        self._copied = stream.record()

    def _give_back(self) -> None:
        """Give the context back, once."""
        context, self._context = self._context, None
        if context is not None:
            self._call.contexts.give_back(context)


def _check_lane(call: PlanCall, lane: Lane) -> None:
    stream_device = getattr(lane.stream, "device", None)
    if getattr(stream_device, "index", None) != call.device.index:
        raise FailedPrecondition(
            f"got lane '{lane}' with the stream {lane.stream!r}, expected one of GPU {call.device.index}"
        )


def _checked(scratch: DeviceBuffer | None, size: int) -> DeviceBuffer | None:
    """Return the activation memory to use. Raises MemoryError if it is too small."""
    if not size:
        return None
    if scratch is None or scratch.size < size:
        raise MemoryError(f"got {scratch!r} as activation memory, expected at least {size} bytes")
    return scratch
