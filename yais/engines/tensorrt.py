"""Engines on TensorRT: 10 and 11, the lean runtime, and TensorRT-RTX.

Only what all of these have is used (tests/engines/surfaces); their package is imported when a plan is loaded.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from yais.engines.engine import Array
from yais.engines.selection import reordered
from yais.engines.single_lane import single_lane
from yais.engines.tensorrt_context import PlanContext
from yais.engines.tensorrt_contexts import PlanContexts
from yais.engines.tensorrt_execution import PlanCall, TensorRTExecution
from yais.engines.tensorrt_graphs import GraphCounts
from yais.engines.tensorrt_options import TensorRTOptions
from yais.engines.tensorrt_plan import PlanHeader
from yais.engines.tensorrt_profiles import plan_profiles
from yais.engines.tensorrt_runtime import TensorRTRuntime, tensorrt_runtime
from yais.engines.tensorrt_sizes import plan_sizes
from yais.engines.tensorrt_tensors import check_engine, plan_tensors
from yais.engines.tensorrt_weights import PlanAllocations, stream_weights
from yais.errors import FailedPrecondition, InvalidArgument
from yais.lane import Lane
from yais.memory.cuda.device import CudaDevice
from yais.memory.device_array import DeviceArray

__all__ = ["TensorRTEngine", "TensorRTOptions"]

_GRAPH_FORMS = 8  # for which an instance has graphs at once: a handful of batch sizes


class TensorRTEngine:
    """One plan on one GPU (`yais.engines.engine.DeviceEngine`). Thread-safe.

    Parameters
    ----------
    model
        Path of the plan, or its bytes.
    device
        The GPU.
    options
        How to run it.
    runtime
        The TensorRT to use, for tests; by default the one that is installed and reads the plan.

    Attributes
    ----------
    header
        Which TensorRT built the plan.
    gpu
        Number of the GPU.
    scratch_size
        Bytes of activation memory that an execution borrows from its token.
    device_size
        Bytes of device memory that the largest execution takes of its lane.
    max_batch
        The largest batch; 0 where the first dimension of a tensor is fixed.
    smallest, largest
        The smallest and the largest shape of each tensor by name, with the batch dimension.
    graph_counts
        What became of CUDA graphs; None without.

    Raises
    ------
    FailedPrecondition
        No TensorRT is installed that reads the plan; the message says which built it and what to do.
    InvalidArgument
        It is no plan, is broken, or needs what is not supported; or the options do not fit it.
    MemoryError
        There is too little device memory.
    """

    def __init__(
        self,
        model: Path | bytes,
        device: CudaDevice,
        options: TensorRTOptions | None = None,
        *,
        runtime: TensorRTRuntime | None = None,
    ) -> None:
        self._device = device
        self._options = options or TensorRTOptions()
        self.gpu: int | None = device.index
        self.graph_counts: GraphCounts | None = None
        self._allocations = PlanAllocations(device) if self._options.weights == "managed" else None
        self._contexts: PlanContexts | None = None
        self._native: Any = None
        self._engine: Any = None
        device.activate()
        with _contents(model) as plan:
            self.header = PlanHeader.of(plan)
            self._runtime = runtime or tensorrt_runtime(self.header.flavour)
            self._allocator = self._allocations.allocator(self._runtime.trt) if self._allocations else None
            self._native, self._engine = self._runtime.load(plan, self.header, self._allocator)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<TensorRTEngine: plan of {self.header} on GPU {self.gpu}>"

    def _prepare(self) -> None:
        options, engine, trt = self._options, self._engine, self._runtime.trt
        check_engine(trt, engine)
        self._tensors = plan_tensors(trt, engine)
        self._profiles = plan_profiles(engine, self._tensors, options.profiles)
        self.takes_device_arrays = not any(tensor.is_input and tensor.on_host for tensor in self._tensors)
        if options.weights == "streamed":
            stream_weights(self._runtime, engine, options)
        if self._allocations is not None:
            self._allocations.loaded()
        if options.graphs and not any(tensor.on_host for tensor in self._tensors):
            self.graph_counts = GraphCounts()
        forms = _GRAPH_FORMS if self.graph_counts is not None else 1
        self._contexts = PlanContexts(self._context, options.contexts, forms)
        self.scratch_size = int(engine.device_memory_size_v2)
        self._measure(self._contexts)
        self.select(
            [tensor.name for tensor in self._tensors if tensor.is_input],
            [tensor.name for tensor in self._tensors if not tensor.is_input],
        )

    def _measure(self, contexts: PlanContexts) -> None:
        context, stream = contexts.borrow(), self._device.stream()
        try:
            sizes = plan_sizes(context, self._tensors, self._profiles, stream)
        finally:
            stream.close()
            contexts.give_back(context)
        self._sizes = sizes
        self.device_size = sizes.device
        self.smallest: Mapping[str, tuple[int, ...]] = sizes.smallest
        self.largest: Mapping[str, tuple[int, ...]] = sizes.largest
        self._specs = {tensor.name: sizes.spec(tensor) for tensor in self._tensors}
        leading = [spec.shape[:1] == (-1,) for spec in self._specs.values()]
        inputs = [tensor.name for tensor in self._tensors if tensor.is_input]
        self.max_batch = min((sizes.largest[name][0] for name in inputs), default=0) if all(leading) else 0

    def _context(self) -> PlanContext:
        self._device.activate()
        strategy = self._runtime.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        native = self._runtime.call(self._engine.create_execution_context, strategy)
        return PlanContext(self._runtime, native, self._tensors, self.graph_counts)

    def select(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Fix the order of inputs and outputs; see `Engine`. Raises InvalidArgument."""
        takes = {tensor.name: tensor for tensor in self._tensors if tensor.is_input}
        gives = {tensor.name: tensor for tensor in self._tensors if not tensor.is_input}
        if len(set(outputs)) != len(outputs):
            raise InvalidArgument(f"got outputs {list(outputs)}, expected each once")
        specs = self._specs
        self.inputs, self.outputs = reordered(
            [specs[name] for name in takes], [specs[name] for name in gives], inputs, outputs
        )
        assert self._contexts is not None
        others = [name for name in gives if name not in outputs]
        self._call = PlanCall(
            self._device,
            self._contexts,
            self._profiles,
            [takes[name] for name in inputs],
            [gives[name] for name in (*outputs, *others)],
            len(outputs),
            self.scratch_size,
        )

    def execute(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run the model with memory and a stream of its own, made for this call; see `Engine`.

        For trying a plan out: `begin` on a lane makes nothing. Raises what an execution there does.
        """
        sizes = self._sizes
        made = single_lane(
            self._device, device=sizes.device, staging=sizes.staging, scratch=self.scratch_size
        )
        with made as (lane, scratch):
            execution = self.begin(inputs, lane)
            execution.launch(scratch)
            execution.wait()
            return [array.copy() for array in execution.outputs()]

    def begin(self, inputs: Sequence[Array | DeviceArray], lane: Lane) -> TensorRTExecution:
        """Queue copies of the inputs; see `DeviceEngine`. Raises what `TensorRTExecution` does."""
        return TensorRTExecution(self._call, inputs, lane)

    def close(self) -> None:
        """Free contexts, engine and runtime, in this order; see `Engine`. A lent context is freed later."""
        if self._contexts is not None:
            with contextlib.suppress(FailedPrecondition):  # the device is closed already
                self._device.activate()
            self._contexts.close()
        self._engine = None
        self._native = None


@contextlib.contextmanager
def _contents(model: Path | bytes) -> Iterator[bytes | mmap.mmap]:
    """Have the bytes of a plan, of a file without reading it before they are needed."""
    if isinstance(model, bytes):
        yield model
        return
    if not model.is_file() or not model.stat().st_size:
        raise InvalidArgument(f"got {model}, expected a file with a TensorRT plan")
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as plan:
        yield plan
