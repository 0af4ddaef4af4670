"""Models: the waist of the system. Requests of every front door enter here, and nothing below knows which."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from yais.core.clock import monotonic
from yais.core.future import Future
from yais.core.timer import Timer
from yais.engines.engine import Engine
from yais.errors import InvalidArgument, Unavailable, Unimplemented
from yais.inference.job import Job
from yais.inference.layout import Layout, Signature
from yais.inference.request import InferRequest, InferResponse
from yais.inference.runner import Runner
from yais.inference.scheduler import Scheduler
from yais.inference.scheduling.direct import DirectQueue
from yais.inference.scheduling.dynamic import BatchingPolicy, DynamicQueue
from yais.inference.scheduling.queue import BatchQueue
from yais.inference.statistics import Counts, ModelStatistics
from yais.inference.tokens import Tokens
from yais.lane import Lanes

__all__ = ["Model", "ModelOptions"]

_MAX_LAYOUTS = 1024  # forms of requests kept per model


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How a model is served.

    Attributes
    ----------
    batching
        How requests are batched; None runs each on its own.
    instances
        Batches that may run at once.
    """

    batching: BatchingPolicy | None = None
    instances: int = 1


class Model:
    """One version of a model, ready to take requests. Thread-safe.

    Parameters
    ----------
    signature
        What it takes and gives.
    version
        As it stands in responses.
    engine
        Runs it; the model closes it.
    options
        How to serve it.
    lanes, tokens
        The threads and the memory to use, and the right to execute.
    timer
        Shared by all models. It, the lanes and the tokens are closed after them.

    Raises
    ------
    ValueError
        The largest batches of `signature` and `options` differ, or the lanes have no threads to execute on.
    """

    def __init__(
        self,
        signature: Signature,
        version: str,
        engine: Engine,
        options: ModelOptions,
        *,
        lanes: Lanes,
        tokens: Tokens,
        timer: Timer,
    ) -> None:
        self.signature = signature
        self.version = version
        self.options = options
        if options.batching and options.batching.max_batch != signature.max_batch:
            raise ValueError(
                f"got batches of {options.batching.max_batch}, expected {signature.max_batch} as in the "
                f"signature of '{signature.name}'"
            )
        if not all("execute" in threads for threads in lanes.threads):
            raise ValueError(f"got {lanes!r}, expected lanes with 'execute' threads")
        self._statistics = ModelStatistics()
        self._runner = Runner(signature, version, engine, tokens, self._statistics)
        queue: BatchQueue[Job] = DynamicQueue(options.batching) if options.batching else DirectQueue()
        self._scheduler = Scheduler(
            queue, self._runner, instances=options.instances, lanes=lanes, timer=timer
        )
        self._layouts: dict[Hashable, Layout] = {}

    def __repr__(self) -> str:
        return f"<Model {self.name} version {self.version}: {self._scheduler!r}, {self._runner.pace!r}>"

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.signature.name

    @property
    def pending(self) -> int:
        """Requests that wait in the queue."""
        return self._scheduler.pending

    @property
    def decoupled(self) -> bool:
        """Whether it answers a request any number of times, through `InferRequest.respond`."""
        return self._runner.decoupled

    def submit(self, request: InferRequest) -> Future[InferResponse]:
        """Take a request.

        Returns at once. The future fails with InvalidArgument when the request is none that the model
        takes, with DeadlineExceeded when its deadline passes in the queue, with Unavailable when the model
        is closed, with Unimplemented when a decoupled model is asked for one response, and with Internal
        when the engine fails. Cancelling it removes the request from the
        queue; one that runs already is not stopped.
        """
        try:
            if self._runner.decoupled and request.respond is None:
                raise Unimplemented(
                    f"model '{self.name}' has a decoupled transaction policy: it answers a request any "
                    "number of times, so ask it for a stream"
                )
            layout = self._layout(request)
            self.signature.check_sizes(layout, request.inputs, request.data)
            job = Job(request, layout, monotonic())
            if not self._scheduler.submit(job):
                raise Unavailable(f"model '{self.name}' version {self.version} is being unloaded")
        except (InvalidArgument, Unavailable, Unimplemented) as error:
            self._statistics.record_failure(monotonic() - request.received)
            failed: Future[InferResponse] = Future()
            failed.set_exception(type(error)(f"[request id: {request.id or '<id_unknown>'}] {error}"))
            return failed
        return job.future

    def counts(self) -> Counts:
        """Return what has been counted so far."""
        return self._statistics.snapshot()

    def warm_up(self) -> None:
        """Run the engine on zeros, so that the first request does not pay for what is done once.

        Also tells the scheduler how long a batch takes. Dimensions of any size are as usual in the profile,
        or 1. What the engine raises is let through.
        """
        inputs = []
        for spec in self.signature.inputs:
            batch = (1,) if self.signature.max_batch else ()
            profile = self.signature.profiles.get(spec.name)
            shape = (*batch, *(profile.usual if profile else (max(size, 1) for size in spec.shape)))
            array = np.zeros(shape, spec.datatype.numpy)
            inputs.append(array if spec.datatype.size else np.full(shape, b"", np.object_))
        for _ in range(3):  # the first runs are slower; the pace forgets them
            start = monotonic()
            self._runner.engine.execute(inputs)
            elapsed = monotonic() - start
        self._runner.pace.observe(1, elapsed)

    def close(self, timeout: float) -> bool:
        """Refuse new requests, let those in flight end, free the engine.

        Returns
        -------
        bool
            Whether they ended within `timeout` seconds. If not, those that still wait fail with
            Unavailable, and the engine is left alone.
        """
        drained = self._scheduler.close(timeout)
        if drained:
            self._runner.engine.close()
        return drained

    def _layout(self, request: InferRequest) -> Layout:
        if request.signature is None:
            return self.signature.layout(request)
        layout = self._layouts.get(request.signature)
        if layout is None:
            layout = self.signature.layout(request)
            if len(self._layouts) >= _MAX_LAYOUTS:
                self._layouts.clear()
            self._layouts[request.signature] = layout
        return layout
