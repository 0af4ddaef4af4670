"""Pipelines: Python code that is a model by calling other models."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

from yais.core.tensor import TensorSpec
from yais.engines.engine import Array
from yais.engines.selection import reordered
from yais.errors import FailedPrecondition

__all__ = ["DEFAULT_PIPELINES", "PythonPipeline", "is_pipeline"]

DEFAULT_PIPELINES = 64
"""Requests to a pipeline at once, where nobody says how many: they wait for other models, and hold nothing
meanwhile but their tensors. A guess."""

_log = logging.getLogger("yais.engines")


class PythonPipeline:
    """A pipeline that was loaded from a file.

    It has the members of an `Engine`, so that it is loaded and completed as one; but it needs models to call,
    and `execute` has none.

    Parameters
    ----------
    function
        `async def pipeline(inputs, models)`: a coroutine function, or an asynchronous generator function.
    inputs, outputs
        The tensors, with names; -1 for a dimension of any size.
    on_close
        Called once when it is closed. What it raises is logged.

    Attributes
    ----------
    function
        As given.
    decoupled
        Whether the function is a generator.
    """

    def __init__(
        self,
        function: Callable[[dict[str, Array], Any], Any],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        on_close: Callable[[], object],
    ) -> None:
        self.function = function
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.decoupled = inspect.isasyncgenfunction(function)
        self._on_close: Callable[[], object] | None = on_close

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, specs)) for specs in (self.inputs, self.outputs))
        return f"<PythonPipeline {inputs} -> {outputs}>"

    def select(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Fix the order of inputs and outputs; see `Engine`. Raises InvalidArgument."""
        self.inputs, self.outputs = reordered(self.inputs, self.outputs, inputs, outputs)

    def execute(self, inputs: Sequence[Array]) -> Sequence[Array]:  # noqa: ARG002
        """Raise FailedPrecondition."""
        raise FailedPrecondition("a pipeline calls other models, expected it to be served with them")

    def close(self) -> None:
        """Call `on_close`. Idempotent."""
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            try:
                on_close()
            except Exception:
                _log.exception("%r: on_close raised", self)


def is_pipeline(function: object) -> bool:
    """Whether something is an `async def` of two arguments, as in `async def pipeline(inputs, models)`."""
    if not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
        return False
    parameters = inspect.signature(function).parameters.values()
    needed = [each for each in parameters if each.default is each.empty and each.kind in _POSITIONAL]
    return len(needed) == 2


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
