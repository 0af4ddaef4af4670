"""An engine without a model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from yais.core.tensor import TensorSpec
from yais.engines.engine import Array

__all__ = ["FakeEngine"]


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
        self.batches.append(inputs[0].shape[0] if inputs and inputs[0] is not None and inputs[0].ndim else 1)
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
