"""Runners of local models."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from yais.core.arrays import prepared, presented
from yais.core.clock import Deadline
from yais.core.future import Future
from yais.core.pool import Lease
from yais.core.tensor import TensorSpec
from yais.core.thread_pool import ThreadPool
from yais.core.timer import Timer
from yais.errors import DeadlineExceeded
from yais.infer_runner import AbstractInferRunner, Array, InferFuture, Post, Pre, merged
from yais.inference.bindings import Bindings
from yais.inference.layout import Signature
from yais.inference.request import InferRequest, InferResponse, Respond
from yais.inference.request_trace import RequestTrace
from yais.inference.response_stream import ResponseStream
from yais.inference.servable import Servable
from yais.lane import Lane, Lanes

__all__ = ["InferRunner"]

_MAX_FORMS = 1024  # forms of requests kept


class InferRunner(AbstractInferRunner[InferResponse]):
    """Runs one model of an `InferenceManager`, which makes it, on the lanes of its sites. Thread-safe.

    Attributes
    ----------
    trace
        Takes the moments of every request from now on; None traces none.
    """

    def __init__(
        self,
        model: Servable,
        lanes: Sequence[Lanes],
        timer: Timer,
        *,
        pre: Pre | None,
        post: Post | None,
        threads: Callable[[str], ThreadPool],
    ) -> None:
        signature = model.signature
        super().__init__(
            signature.name,
            _with_batch(signature, signature.inputs),
            _with_batch(signature, signature.outputs),
            signature.max_batch,
            pre=pre,
            post=post,
            threads=threads,
        )
        self.trace: RequestTrace | None = None
        self._model = model
        self._lanes = [each.pool for each in lanes]
        self._turns = itertools.count()
        self._timer = timer
        self._forms: dict[tuple[tuple[int, ...], ...], tuple[TensorSpec, ...]] = {}

    def bindings(
        self,
        batch: int = 1,
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        timeout: float = 30.0,
    ) -> Bindings:
        """Take a lane, and return arrays in its staging memory for the inputs of a request.

        Fill them and give them to `infer`. The lane is taken until `Bindings.release`, so there are as many
        as the manager's `max_copy_concurrency`. A request with them runs where the lane is: for a model on
        several GPUs, lanes are of one after the other, or of one that has any free.

        Parameters
        ----------
        batch
            Items.
        shapes
            For inputs with dimensions of any size, the shape of an item; by default that of their profile.
        timeout
            Seconds to wait for a lane.

        Raises
        ------
        DeadlineExceeded
            No lane became free.
        InvalidArgument
            The batch or a shape is none that the model takes.
        """
        lane = self._lane(timeout)
        try:
            return Bindings(self._model.signature, lane, batch, shapes or {})
        except BaseException:
            lane.release()
            raise

    def _lane(self, timeout: float) -> Lease[Lane]:
        pools = self._lanes
        if len(pools) == 1:
            return pools[0].acquire(timeout)
        first = next(self._turns) % len(pools)
        for pool in (*pools[first:], *pools[:first]):
            lane = pool.try_acquire()
            if lane is not None:
                return lane
        return pools[first].acquire(timeout)

    def stream(self, inputs: Mapping[str, Any] | None = None, /, **arrays: Any) -> ResponseStream:
        """Ask a decoupled model, which answers any number of times; see `infer` for the inputs.

        The stream is an iterator, plain and asynchronous, of dicts of arrays. Close it, or leave it as a
        context manager, when no more are wanted. Other models give one response.
        """
        stream = ResponseStream(self._arrays)
        stream.follow(self._submit(merged(inputs, arrays), Deadline(), stream.respond))
        return stream

    def _infer(self, arrays: Mapping[str, Any], deadline: Deadline) -> InferFuture:
        future = super()._infer(arrays, deadline)
        if deadline.at is not None and not future.done():
            # The scheduler looks at a deadline when it could run the request; the caller is told in time.
            late = DeadlineExceeded(
                f"the request to model '{self.name}' was not executed before its deadline"
            )
            with contextlib.suppress(RuntimeError):  # closed meanwhile, and so will be the model
                handle = self._timer.call_at(deadline.at, partial(future.expire, late))
                future.add_done_callback(lambda _: handle.cancel())
        return future

    def _submit(
        self, arrays: Mapping[str, Any], deadline: Deadline, respond: Respond | None = None
    ) -> Future[InferResponse]:
        answer = self._model.submit(self._request(arrays, deadline, respond))
        if isinstance(arrays, Bindings):
            arrays.keep_until(answer)
        return answer

    def _request(
        self, arrays: Mapping[str, Any], deadline: Deadline, respond: Respond | None
    ) -> InferRequest:
        bindings = arrays if isinstance(arrays, Bindings) else None
        made = arrays if bindings is not None else prepared(arrays, self._inputs, self.name)
        arrays_made = list(made.values())
        shapes = tuple([array.shape for array in arrays_made])
        return InferRequest(
            self._specs(shapes),
            arrays_made,
            deadline=deadline,
            # The names and types are the model's, so the shapes say all there is to say of the form.
            signature=shapes,
            respond=respond,
            arrays=True,
            waits=respond is None,
            lane=bindings.rewind() if bindings is not None else None,
            trace=self.trace,
        )

    def _specs(self, shapes: tuple[tuple[int, ...], ...]) -> tuple[TensorSpec, ...]:
        specs = self._forms.get(shapes)
        if specs is None:
            if len(self._forms) >= _MAX_FORMS:
                self._forms.clear()
            specs = self._forms[shapes] = tuple(
                TensorSpec(spec.name, spec.datatype, shape)
                for spec, shape in zip(self._inputs.values(), shapes, strict=True)
            )
        return specs

    def _arrays(self, answer: InferResponse) -> dict[str, Array]:
        outputs = zip(answer.form.outputs, answer.data, strict=True)
        return {spec.name: presented(cast("Array", data), spec.datatype) for spec, data in outputs}


def _with_batch(signature: Signature, specs: tuple[TensorSpec, ...]) -> dict[str, TensorSpec]:
    batch = (-1,) if signature.max_batch else ()
    return {spec.name: TensorSpec(spec.name, spec.datatype, (*batch, *spec.shape)) for spec in specs}
