"""Helpers for tests: those of this package, and those of services built with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

from yais.core.clock import NANOSECONDS
from yais.core.tensor import TensorSpec
from yais.engines.engine import Array
from yais.rpc.resources import Resources
from yais.rpc.server import Server
from yais.rpc.service import Service

__all__ = ["FakeEngine", "ManualClock", "Served", "serving"]


class ManualClock:
    """A `yais.core.clock.Clock` that stands still until it is told to go on. Thread-safe.

    Parameters
    ----------
    start
        The first moment, in nanoseconds.

    Examples
    --------
    >>> clock = ManualClock()
    >>> deadline = Deadline.after(1.5, clock=clock)
    >>> clock.advance(2.0)
    >>> deadline.expired(clock=clock)
    True
    """

    def __init__(self, start: int = 0) -> None:
        self._now = start
        self._lock = threading.Lock()

    def __call__(self) -> int:
        """Return the present moment in nanoseconds."""
        return self._now

    def __repr__(self) -> str:
        return f"<ManualClock at {self._now} ns>"

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.advance_ns(round(seconds * NANOSECONDS))

    def advance_ns(self, nanoseconds: int) -> None:
        """Let `nanoseconds` pass.

        Raises
        ------
        ValueError
            The number is negative: a monotonic clock never goes back.
        """
        if nanoseconds < 0:
            raise ValueError(f"got {nanoseconds} ns, expected at least 0")
        with self._lock:
            self._now += nanoseconds


class FakeEngine:
    """A `yais.engines.engine.Engine` that computes with a function and can be stopped and made to fail.

    Thread-safe.

    Parameters
    ----------
    inputs, outputs
        The tensors of the model.
    function
        Takes an array for each input, in the order above, and returns a sequence with one for each output.
        What it raises, `execute` raises. Outputs are copied, so that it may return its inputs.

    Attributes
    ----------
    batches
        For each call, in their order, the first dimension of its first input; 1 where there is none.
    entered
        Released once by every call as it begins.
    gate
        Calls wait until it is set, as it is at first: at most 30 seconds, then they raise TimeoutError.
    error
        Raised by every call, after the gate, unless it is None.
    closed
        How often it was closed. A call to a closed engine raises RuntimeError.

    Examples
    --------
    >>> engine = FakeEngine([x], [y], lambda x: [x + 1])
    >>> engine.gate.clear()
    >>> first = model.submit(request)
    >>> assert engine.entered.acquire(timeout=10)  # the only instance is busy now:
    >>> others = [model.submit(request) for _ in range(3)]
    >>> engine.gate.set()
    >>> assert others[-1].get(10) and engine.batches == [1, 3]
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        function: Callable[..., Sequence[Array]],
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.batches: list[int] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.error: BaseException | None = None
        self.closed = 0
        self._function = function
        # For each argument of the function, its position among the inputs; for each output, its position
        # among the function's results.
        self._arguments = list(range(len(self.inputs)))
        self._results = list(range(len(self.outputs)))

    def select(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Fix the order of inputs and outputs; see `Engine`."""
        names = [spec.name for spec in self.inputs]
        self._arguments = [list(inputs).index(names[position]) for position in self._arguments]
        self.inputs = tuple(self.inputs[names.index(name)] for name in inputs)
        names = [spec.name for spec in self.outputs]
        self._results = [self._results[names.index(name)] for name in outputs]
        self.outputs = tuple(self.outputs[names.index(name)] for name in outputs)

    def execute(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Call the function; see `Engine`."""
        if self.closed:
            raise RuntimeError(f"{self!r} is closed, expected an open one")
        self.batches.append(inputs[0].shape[0] if inputs and inputs[0].ndim else 1)
        self.entered.release()
        if not self.gate.wait(30.0):
            raise TimeoutError(f"{self!r}: the gate was not set within 30 s")
        if self.error is not None:
            raise self.error
        results = self._function(*(inputs[position] for position in self._arguments))
        return [np.array(results[position]) for position in self._results]

    def close(self) -> None:
        """Count the call; see `Engine`."""
        self.closed += 1

    def __repr__(self) -> str:
        return f"<FakeEngine: {len(self.batches)} batches>"


@dataclass(frozen=True, slots=True)
class Served:
    """A running server, its port, and a channel to it, as `serving` yields them."""

    server: Server
    port: int
    channel: grpc.Channel


@contextmanager
def serving(
    *services: Service, resources: Resources | None = None, **server_options: Any
) -> Iterator[Served]:
    """Run a server on a free port of the loopback interface while the block lasts.

    When the block ends, the channel is closed first, which cancels what is still called through it, and
    then the server is stopped.

    Parameters
    ----------
    services
        What to serve.
    resources
        The server's resources.
    server_options
        Further keyword arguments of `yais.Server`.

    Examples
    --------
    >>> with serving(service, grace=1.0) as served:
    ...     stub = EchoStub(served.channel)
    ...     assert stub.Say(EchoRequest(text="hello")).text == "hello"
    """
    server = Server("127.0.0.1:0", resources=resources, **server_options)
    for service in services:
        server.add(service)
    # With the pool that channels share by default, the next test on the same port might find a connection
    # of this one.
    own_connection = [("grpc.use_local_subchannel_pool", 1)]
    with server, grpc.insecure_channel(f"127.0.0.1:{server.port}", options=own_connection) as channel:
        yield Served(server, server.port, channel)
