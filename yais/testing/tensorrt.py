"""A TensorRT that is not there: plans of Python functions, on the memory and the streams of a `FakeCuda`."""

from __future__ import annotations

import collections
import functools
import itertools
import struct
import threading
import types
import weakref
from types import TracebackType
from typing import Any, Literal, Self

from yais.engines.tensorrt_runtime import TensorRTRuntime
from yais.testing import tensorrt_enums as enums
from yais.testing.cuda import FakeCuda
from yais.testing.tensorrt_context import FakeContext, FakeExecution
from yais.testing.tensorrt_engine import FakeEngine, FakeGpuAllocator, FakeLogger, FakeRuntime
from yais.testing.tensorrt_network import FakeNetwork, FakeProfile, FakeTensor

__all__ = ["FakeNetwork", "FakeProfile", "FakeTensor", "FakeTensorRT", "Flavour"]

Flavour = Literal["tensorrt", "tensorrt_lean", "tensorrt_rtx"]

_HEADER = struct.Struct("<4s4xQQ4B")  # as of real plans; see yais.engines.tensorrt_plan
_BODY = struct.Struct("<Q")  # the number of the network

_numbers = itertools.count(1)
_networks: dict[int, FakeNetwork] = {}  # of all fakes, since one reads the plans of another


class FakeTensorRT:
    """A fake of the module `tensorrt`, of one of its versions or relatives. Thread-safe. A context manager.

    It checks what the real one would crash on, or not notice: memory that is not live, too small, not aligned
    or shared; contexts used while they execute; captures before anything was executed.

    Parameters
    ----------
    cuda
        The GPUs.
    version
        Of the module.
    flavour
        Its name. TensorRT-RTX has plans of its own; the lean runtime reads version-compatible ones only.

    Attributes
    ----------
    module
        What stands for the module: it has the names that are used of it, and no others.
    runtime
        To be given to `TensorRTEngine`.
    calls
        Names of the calls that change something, in their order, and "free runtime", "free engine" and
        "free context".
    problems
        What was wrong; the end of the context manager raises AssertionError if there is any.

    Examples
    --------
    >>> with FakeCuda() as cuda, FakeTensorRT(cuda) as fake:
    ...     x, y = FakeTensor("x"), FakeTensor("y")
    ...     plan = fake.plan(FakeNetwork(inputs=[x], outputs=[y], function=lambda x: [2 * x],
    ...         profiles=[FakeProfile({"x": ((1, 4), (4, 4), (8, 4))})]))
    ...     engine = TensorRTEngine(plan, cuda.device(), runtime=fake.runtime)
    """

    def __init__(self, cuda: FakeCuda, version: str = "10.16.1.11", flavour: Flavour = "tensorrt") -> None:
        self.cuda = cuda
        self.flavour = flavour
        self.version = tuple(int(part) for part in version.split("."))
        self.calls: list[str] = []
        self.problems: list[str] = []
        self._lock = threading.Lock()
        self._failures: dict[str, list[tuple[int, int, str]]] = {}
        self._alive: collections.Counter[str] = collections.Counter()
        self._in_flight: list[FakeExecution] = []
        module: Any = types.ModuleType(flavour)
        self.module = module
        module.__version__ = version
        module.ILogger = FakeLogger
        module.IGpuAllocator = FakeGpuAllocator
        for name, kind in (("Runtime", FakeRuntime), ("ICudaEngine", FakeEngine)):
            setattr(module, name, type(name, (kind,), {"_fake": self}))
        module.IExecutionContext = type("IExecutionContext", (FakeContext,), {"_fake": self})
        for name in enums.__all__:
            if name != "Severity":
                setattr(module, name, getattr(enums, name))

    def __repr__(self) -> str:
        return f"<FakeTensorRT: {self.flavour} {self.module.__version__}, {dict(+self._alive)}>"

    @functools.cached_property
    def runtime(self) -> TensorRTRuntime:
        """The module as engines take it."""
        return TensorRTRuntime(self.module)

    @property
    def alive(self) -> dict[str, int]:
        """How many runtimes, engines and contexts there are."""
        with self._lock:
            return dict(+self._alive)

    def plan(self, network: FakeNetwork) -> bytes:
        """Return a network as a plan, built by this version."""
        number = next(_numbers)
        _networks[number] = network
        rtx = self.flavour == "tensorrt_rtx"
        size = _HEADER.size + _BODY.size
        version = [part % 256 for part in (*self.version, 0, 0, 0)[:4]]
        head = _HEADER.pack(b"vtrt" if rtx else b"ftrt", 2 if rtx else 1, size, *version)
        return head + _BODY.pack(number)

    def fail(
        self, call: str, message: str = "Error Code 2: a fault", *, times: int = 1, after: int = 0
    ) -> None:
        """Have calls of a name fail as the real ones do: an error in the log, and False or None.

        Parameters
        ----------
        call
            Such as "execute_async_v3".
        message
            In the log.
        times, after
            How many calls fail, and how many go well before.
        """
        with self._lock:
            self._failures.setdefault(call, []).append((after, times, message))

    def __enter__(self) -> Self:
        """Return the fake itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Check that nothing was wrong, and nothing is left."""
        if kind is None:
            assert not self.problems, "\n".join(self.problems)
            assert not self.alive, f"got {self.alive} left, expected none"

    # --- For its parts ----------------------------------------------------------------------------------

    def _read(self, plan: bytes) -> tuple[FakeNetwork | None, str]:
        """Return the network of a plan, or the reason why there is none."""
        if len(plan) < _HEADER.size + _BODY.size:
            return None, "Serialization (Serialization assertion sizeRead == kSIZE failed)"
        tag, _, _, *version = _HEADER.unpack_from(plan)
        network = _networks.get(_BODY.unpack_from(plan, _HEADER.size)[0])
        if network is None or tag != (b"vtrt" if self.flavour == "tensorrt_rtx" else b"ftrt"):
            return None, "Serialization (Serialization assertion magicTagRead == kMAGIC_TAG failed)"
        if tuple(version) != self.version[:4] and not network.version_compatible:
            built = ".".join(map(str, version))
            return None, (
                "Internal Error (The engine plan file is not compatible with this version of TensorRT, "
                f"expecting library version {self.module.__version__} got {built}, please rebuild.)"
            )
        if self.flavour == "tensorrt_lean" and not network.version_compatible:
            return None, "API Usage Error (the lean runtime only reads version-compatible plans)"
        if network.plugin:
            return None, f"API Usage Error (Cannot find plugin: {network.plugin}, version: 1, namespace:.)"
        return network, ""

    def _goes(self, call: str, logger: Any) -> bool:
        """Note a call; return whether it goes well, else log why."""
        with self._lock:
            self.calls.append(call)
            waiting = self._failures.get(call, [])
            if not waiting:
                return True
            after, times, message = waiting.pop(0)
            if after:
                waiting.insert(0, (after - 1, times, message))
                return True
            if times > 1:
                waiting.insert(0, (0, times - 1, message))
        self._error(logger, f"{call}: {message}")
        return False

    def _error(self, logger: Any, message: str) -> None:
        logger.log(enums.Severity.ERROR, message)

    def _problem(self, text: str) -> None:
        with self._lock:
            self.problems.append(text)

    def _lives(self, what: str, thing: object) -> None:
        with self._lock:
            self._alive[what] += 1
        weakref.finalize(thing, self._gone, what).atexit = False

    def _gone(self, what: str) -> None:
        self._alive[what] -= 1  # without the lock, which whoever collects may hold
        self.calls.append(f"free {what}")

    def _on_gpu(self) -> int:
        """Return the context of CUDA that is current on this thread; 0 for none."""
        return int(self.cuda.toolkit.call("cuCtxGetCurrent"))

    def _submit(self, context: FakeContext, execution: FakeExecution, stream: int) -> Any:
        """Queue an execution, or have it captured; return the event after it."""
        ran = []

        def run() -> None:
            ran.append(True)
            with self._lock:
                if execution in self._in_flight:
                    self._in_flight.remove(execution)
            context._run(execution)

        duration = context._engine._network.time(execution.shapes)
        busy = context._busy
        future = self.cuda.submit(stream, "compute", run, duration=duration, label="execute")
        if future.done() and not ran:  # captured: it runs when the graph is launched
            if not context._warm:
                self._problem("an execution was captured before one with its shapes had run")
            return context._running
        context._warm = True
        with self._lock:
            if busy:
                self.problems.append("an execution on a context whose last one is not over")
            if any(execution.shares(other) for other in self._in_flight):
                self.problems.append("two executions in flight share activation memory")
            if not ran:
                self._in_flight.append(execution)
        return future
