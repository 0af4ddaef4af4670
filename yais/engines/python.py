"""Python code as a model: any callable over a dict of arrays."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from typing import Any

from yais.core.loop_thread import LoopThread
from yais.core.tensor import TensorSpec
from yais.engines.engine import Array
from yais.engines.python_outputs import checked_outputs
from yais.engines.selection import reordered
from yais.errors import FailedPrecondition

__all__ = ["PythonEngine"]

_log = logging.getLogger("yais.engines")

_CLOSE_SECONDS = 5.0  # for coroutines that are cancelled when the engine is closed


class PythonEngine:
    """A callable as an engine.

    What the callable raises is let through unchanged. It is called from as many threads at once as the
    model has instances; coroutines all run on one event loop, on a thread that the engine starts for the
    first of them.

    Parameters
    ----------
    function
        Called with a dict of read-only arrays by input name, without those that a request leaves out. They
        are valid until it has answered, and may be views of a request, or of memory that is used again.
        Returns a mapping of output names to arrays,
        or to what `numpy.asarray` takes, and leaves these alone afterwards. May be a coroutine function, or
        a generator, also an asynchronous one, of any number of such mappings.
    inputs, outputs
        The tensors, with names; -1 for a dimension of any size. Elements of BYTES are `bytes`, and those of
        BF16 their bits as uint16.
    on_close
        Called once when the engine is closed. What it raises is logged.

    Attributes
    ----------
    decoupled
        Whether the function is a generator, so that `stream` is to be called.
    blocks
        True: a call may take any time, whatever the ones before took, so none runs on a queue's thread.

    Raises
    ------
    ValueError
        There are no outputs, or two tensors have one name.
    """

    def __init__(
        self,
        function: Callable[[dict[str, Array]], Any],
        *,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        on_close: Callable[[], object] | None = None,
    ) -> None:
        for kind, specs in (("inputs", inputs), ("outputs", outputs)):
            names = [spec.name for spec in specs]
            if len(set(names)) < len(names) or not outputs:
                raise ValueError(f"got {kind} {names}, expected different names, and at least one output")
        self.inputs = tuple(inputs)
        self.outputs = self._declared = tuple(outputs)
        self._function = function
        self._on_close = on_close
        self._is_async = _is(inspect.iscoroutinefunction, function)
        self._is_async_generator = _is(inspect.isasyncgenfunction, function)
        self.decoupled = self._is_async_generator or _is(inspect.isgeneratorfunction, function)
        self.blocks = True
        self._loop = LoopThread("python-model")
        self._closed = False

    def __repr__(self) -> str:
        kind = "decoupled, " if self.decoupled else ""
        inputs, outputs = (", ".join(map(str, specs)) for specs in (self.inputs, self.outputs))
        return f"<PythonEngine {kind}{inputs} -> {outputs}>"

    def select(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Fix the order of inputs and outputs; see `Engine`. Raises InvalidArgument."""
        self.inputs, self.outputs = reordered(self.inputs, self.outputs, inputs, outputs)

    def execute(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Call the function; see `Engine`.

        Raises
        ------
        Internal
            It returned something else than the outputs that are declared.
        FailedPrecondition
            It is a generator.
        """
        if self.decoupled:
            raise FailedPrecondition("the model answers with a stream, expected a call of stream")
        result = self._function(self._named(inputs))
        if self._is_async:
            result = self._loop.spawn(result).result()
        return self._checked(result, inputs)

    def stream(self, inputs: Sequence[Array]) -> Generator[Sequence[Array], None, None]:
        """Call the generator function; see `DecoupledEngine`. Raises Internal and FailedPrecondition."""
        if not self.decoupled:
            raise FailedPrecondition("the model answers once, expected a call of execute")
        results = self._function(self._named(inputs))
        if self._is_async_generator:
            results = self._awaited(results)
        try:
            for result in results:
                yield self._checked(result, inputs)
        finally:
            results.close()

    def close(self) -> None:
        """Cancel what still runs on the event loop, and call `on_close`. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if not self._loop.close(_CLOSE_SECONDS):
            _log.error("%r: a coroutine did not end within %s s of its cancellation", self, _CLOSE_SECONDS)
        if self._on_close is not None:
            try:
                self._on_close()
            except Exception:
                _log.exception("%r: on_close raised", self)

    def _named(self, inputs: Sequence[Array]) -> dict[str, Array]:
        named = {}
        for spec, given in zip(self.inputs, inputs, strict=True):
            if given is None:
                continue
            array = given.view()
            array.flags.writeable = False
            named[spec.name] = array
        return named

    def _checked(self, result: object, inputs: Sequence[Array]) -> list[Array]:
        arrays = checked_outputs(result, self._declared, [array for array in inputs if array is not None])
        return [arrays[spec.name] for spec in self.outputs]

    def _awaited(self, results: AsyncGenerator[Any, None]) -> Iterator[Any]:
        try:
            while True:
                try:
                    result = self._loop.spawn(anext(results)).result()
                except StopAsyncIteration:
                    return
                yield result
        finally:
            self._loop.spawn(results.aclose()).result()


def _is(kind: Callable[[object], bool], function: Callable[..., Any]) -> bool:
    return kind(function) or kind(type(function).__call__)  # an object may have such a method
