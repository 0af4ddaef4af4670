"""What runners of local and of remote models have in common, so that code moves between them unchanged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, Self, TypeVar

import numpy.typing as npt

from yais.core.clock import Deadline
from yais.core.future import Future
from yais.core.offered_future import OfferedFuture
from yais.core.tensor import TensorSpec
from yais.core.thread_pool import ThreadPool
from yais.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, Unavailable

__all__ = ["AbstractInferRunner", "Array", "InferFuture", "Post", "Pre", "merged"]

Array = npt.NDArray[Any]
Answer = TypeVar("Answer")

Pre = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Makes the inputs of a model of what `infer` was given."""

Post = Callable[[dict[str, Array]], Any]
"""Makes the result of a future of a model's outputs."""


class InferFuture(OfferedFuture[Any]):
    """The outputs of a model: `get(timeout)`, `wait(timeout)`, `await`, `add_done_callback`, `cancel()`.

    `cancel` succeeds until the request is executed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._source: Future[Any] | None = None
        self._late: DeadlineExceeded | None = None

    def follow(self, source: Future[Any]) -> None:
        """Make `source` the work that `cancel` cancels, and that a thread that waits may do."""
        self._source = source
        if isinstance(source, OfferedFuture):
            if self._sleepers or self._done_callbacks:
                source.hand_over()
            else:
                self.offer(source.assist, source.hand_over)
        if self._late is not None:  # the deadline passed in the work before
            source.cancel()

    def add_done_callback(self, fn: Callable[[Self], Any]) -> None:
        """Call `fn(self)` once the future is done, on the thread that completes it."""
        self.hand_over()
        super().add_done_callback(fn)

    def running(self) -> bool:
        """Whether the request is being executed, and can no longer be cancelled."""
        return not self.done() and self._source is not None and self._source.running()

    def cancel(self) -> bool:
        """Cancel the request if it is not executed yet; return whether it is cancelled."""
        if self._source is not None and not self._source.cancel():
            return self.cancelled()
        return super().cancel()

    def expire(self, error: DeadlineExceeded) -> None:
        """Fail with `error` instead, if the request is not executed yet."""
        # In this order: either this cancels the work that `follow` is given next, or `follow` does.
        self._late = error
        if self._source is not None:
            self._source.cancel()

    def fail(self, error: BaseException) -> None:
        """Complete with an error, or as cancelled where the source was."""
        if self._source is not None and self._source.cancelled():
            if self._late is None:
                super().cancel()
            else:
                error = self._late
        if not self.done():
            self.set_exception(error)


class AbstractInferRunner(ABC, Generic[Answer]):
    """Runs one model. Thread-safe.

    Parameters
    ----------
    name
        Of the model.
    inputs, outputs
        What it takes and gives; with a leading -1 for the batch of a batching model.
    max_batch_size
        Largest batch of one request; 0 for a model without a batch dimension.
    pre
        Called with what `infer` was given; returns the model's inputs. Runs on the "pre" threads.
    post
        Called with the outputs; what it returns is the result of the future. Runs on the "post" threads.
    threads
        Returns the named pool to run `pre` or `post` on.
    """

    def __init__(
        self,
        name: str,
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
        max_batch_size: int,
        *,
        pre: Pre | None,
        post: Post | None,
        threads: Callable[[str], ThreadPool],
    ) -> None:
        self.name = name
        self._inputs = dict(inputs)
        self._outputs = dict(outputs)
        self._max_batch_size = max_batch_size
        self._pre = pre
        self._post = post
        self._threads = threads

    def __repr__(self) -> str:
        inputs = ", ".join(map(str, self._inputs.values()))
        outputs = ", ".join(map(str, self._outputs.values()))
        return f"<{type(self).__name__} {self.name}: ({inputs}) -> ({outputs})>"

    def input_bindings(self) -> dict[str, TensorSpec]:
        """Return what the model takes; a leading -1 is the batch of a batching model."""
        return dict(self._inputs)

    def output_bindings(self) -> dict[str, TensorSpec]:
        """Return what the model gives."""
        return dict(self._outputs)

    def max_batch_size(self) -> int:
        """Return the largest batch of one request; 0 for a model without a batch dimension."""
        return self._max_batch_size

    def infer(self, inputs: Mapping[str, Any] | None = None, /, **arrays: Any) -> InferFuture:
        """Ask for the outputs of some inputs; returns at once.

        Parameters
        ----------
        inputs, arrays
            An array for each input, by name, or what numpy makes one of, or anything that speaks DLPack. Of
            the model's type, or one that converts to it without loss of kind; of whole numbers any type that
            they fit. The batch is the first dimension. What is an array of the right type already is not
            copied: do not change it until the future is done.

        Returns
        -------
        InferFuture
            Of a dict of arrays by output name, or of what `post` makes of it. It fails with the `YaisError`
            of whatever went wrong.

        Raises
        ------
        InvalidArgument
            An input is unknown or missing, or its values are none of the model's type. With `pre`, the
            future fails with it instead.
        """
        return self._infer(merged(inputs, arrays), Deadline())

    def infer_with_deadline(
        self, seconds: float, inputs: Mapping[str, Any] | None = None, /, **arrays: Any
    ) -> InferFuture:
        """Do as `infer`, and fail with DeadlineExceeded if it is not executed within `seconds`."""
        return self._infer(merged(inputs, arrays), Deadline.after(seconds))

    @abstractmethod
    def _submit(self, arrays: Mapping[str, Any], deadline: Deadline) -> Future[Answer]:
        """Send the model's inputs on their way. Raises InvalidArgument for what it does not take."""

    @abstractmethod
    def _arrays(self, answer: Answer) -> dict[str, Array]:
        """Return the outputs that an answer holds."""

    def _infer(self, arrays: Mapping[str, Any], deadline: Deadline) -> InferFuture:
        future = InferFuture()
        if self._pre is None:
            self._ask(future, self._submit(arrays, deadline))
            return future
        prepared = self._on("pre", self._pre, arrays)
        future.follow(prepared)
        prepared.add_done_callback(partial(self._prepared, future, deadline))
        return future

    def _prepared(self, future: InferFuture, deadline: Deadline, prepared: Future[Mapping[str, Any]]) -> None:
        try:
            inputs = prepared.result(0)
            if not isinstance(inputs, Mapping):
                raise InvalidArgument(f"got a {type(inputs).__name__} from pre, expected a mapping of inputs")
            answer = self._submit(inputs, deadline)
        except BaseException as error:
            future.fail(error)
        else:
            self._ask(future, answer)

    def _ask(self, future: InferFuture, answer: Future[Answer]) -> None:
        future.follow(answer)
        answer.add_done_callback(partial(self._answered, future))

    def _answered(self, future: InferFuture, answer: Future[Answer]) -> None:
        try:
            outputs = self._arrays(answer.result(0))
        except BaseException as error:
            future.fail(error)
            return
        if self._post is None:
            future.set_result(outputs)
            return
        self._on("post", self._post, outputs).add_done_callback(partial(_copy, future))

    def _on(self, stage: str, function: Callable[..., Any], argument: Any) -> Future[Any]:
        try:
            return self._threads(stage).submit(function, argument)
        except (RuntimeError, FailedPrecondition):  # closed
            failed: Future[Any] = Future()
            failed.set_exception(Unavailable(f"the manager of model '{self.name}' is closed"))
            return failed


def merged(inputs: Mapping[str, Any] | None, arrays: dict[str, Any]) -> Mapping[str, Any]:
    """Return what `infer` was given in its two ways."""
    if inputs is None:
        return arrays
    return {**inputs, **arrays} if arrays else inputs


def _copy(future: InferFuture, source: Future[Any]) -> None:
    try:
        result = source.result(0)
    except BaseException as error:
        future.fail(error)
    else:
        future.set_result(result)
