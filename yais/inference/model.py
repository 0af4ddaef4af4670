"""Models: the waist of the system. Requests of every front door enter here, and nothing below knows which."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from yais.core.clock import monotonic
from yais.core.future import Future
from yais.core.timer import Timer
from yais.engines.engine import Engine
from yais.errors import FailedPrecondition, YaisError
from yais.inference.batch_times import measure
from yais.inference.counts import Counts
from yais.inference.intake import Intake
from yais.inference.job import Job
from yais.inference.layout import Layout, Signature
from yais.inference.model_options import ModelOptions, adapters_of, orders_of, queue_of
from yais.inference.rate_limiter import Permits, RateLimiter, RateNeeds
from yais.inference.rehearsal import Rehearsal
from yais.inference.request import InferRequest, InferResponse
from yais.inference.response_cache import ResponseCache
from yais.inference.runner import Runner
from yais.inference.scheduler import Scheduler
from yais.inference.scheduling.sequence import SequenceQueue, SequenceStatistics
from yais.inference.scheduling.slo import SloQueue
from yais.inference.servable import ModelClosed
from yais.inference.site import Site
from yais.inference.sites import Sites
from yais.inference.statistics import ModelStatistics
from yais.inference.tokens import Tokens
from yais.inference.warm_up import sample_inputs, zeros
from yais.lane import Lanes

__all__ = ["Model"]

_log = logging.getLogger("yais.inference")


class Model:
    """One version of a model with an engine, ready to take requests; see `Servable`. Thread-safe.

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
        The threads and the memory of the host to use, and the right to execute.
    sites
        Those of GPUs, for engines that are on one; None for a model without such engines.
    timer
        Shared by all models. It, the lanes, the tokens and the sites are closed after them.
    cache
        Of responses; used if `options` says so.
    limiter
        Of the resources that models share; None does not limit.
    on_close
        Called once its engine is closed.

    Raises
    ------
    ValueError
        The largest batches of `signature` and `options` differ, or the lanes have no threads to execute on.
    InvalidArgument
        An instance needs more of a resource than there is.
    FailedPrecondition
        An engine is on a GPU, and that cannot be used.
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
        sites: Sites | None = None,
        cache: ResponseCache | None = None,
        limiter: RateLimiter | None = None,
        on_close: Callable[[], object] | None = None,
    ) -> None:
        self.signature = signature
        self.version = version
        self.options = options
        if options.max_batch not in {None, signature.max_batch}:
            raise ValueError(
                f"got batches of {options.max_batch}, expected {signature.max_batch} as in the "
                f"signature of '{signature.name}'"
            )
        if not all("execute" in threads for threads in lanes.threads):
            raise ValueError(f"got {lanes!r}, expected lanes with 'execute' threads")
        self._engine = engine
        self._on_close = on_close
        self._host = Site(lanes, tokens)
        self._sites = sites
        self._statistics = ModelStatistics()
        self._runner = self._make_runner(self._statistics)
        self._queue = queue_of(options, signature.name)
        self._scheduler = Scheduler(
            self._queue,
            self._runner,
            timer=timer,
            orders=orders_of(options),
        )
        # What is answered at once must not overtake what waits where the order is preserved.
        ordered = options.batching is not None and options.batching.preserve_ordering
        self._may_answer = self._scheduler.at_rest if ordered else None
        self._intake = Intake(
            signature,
            self._statistics,
            decoupled=self._runner.decoupled,
            cache=cache if options.cache else None,
        )
        # A cache looks at the contents of every request.
        cached = options.cache and cache is not None
        self._gpus_of_inputs = frozenset() if cached else self._runner.gpus
        self._limiter = limiter
        self._permits: list[Permits] = []
        if limiter is not None and options.rate:
            self._limit(limiter, options.rate)

    def __repr__(self) -> str:
        return f"<Model {self.name} version {self.version}: {self._scheduler!r}, {self._runner.pace!r}>"

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.signature.name

    @property
    def sites(self) -> Sequence[Site]:
        """Where its instances are, each site once."""
        return list(dict.fromkeys(self._runner.sites))

    @property
    def pending(self) -> int:
        """Requests that wait in the queue."""
        return self._scheduler.pending_requests

    @property
    def lost(self) -> str:
        """Why nothing it runs on works any more; empty while something does."""
        sites = self._runner.sites
        return sites[0].lost if all(site.lost for site in sites) else ""

    @property
    def decoupled(self) -> bool:
        """Whether it answers a request any number of times, through `InferRequest.respond`."""
        return self._runner.decoupled

    @property
    def gpus(self) -> frozenset[int]:
        """GPUs on which the contents of inputs may be; see `Servable`."""
        return self._gpus_of_inputs

    def submit(self, request: InferRequest) -> Future[InferResponse]:
        """Take a request.

        Returns at once. The future fails with InvalidArgument when the request is none that the model
        takes, with DeadlineExceeded when its deadline passes in the queue, with Unavailable when the model
        is closed, with Unimplemented when a decoupled model is asked for one response, and with Internal
        when the engine fails. Cancelling it removes the request from the
        queue; one that runs already is not stopped.
        """
        return self._intake.submit(request, self._schedule, may_answer=self._may_answer)

    def _schedule(self, request: InferRequest, layout: Layout) -> Future[InferResponse]:
        tensors = self.options.sequence_tensors
        if tensors is not None:
            tensors.check(request.sequence, self.name)
        job = Job(request, layout, monotonic())
        if not self._scheduler.submit(job):
            raise ModelClosed(f"model '{self.name}' version {self.version} is being unloaded")
        return job.future

    def counts(self) -> Counts:
        """Return what has been counted so far."""
        return self._statistics.snapshot()

    def sequences(self) -> SequenceStatistics | None:
        """Return where its sequences are; None for a model without."""
        return self._queue.statistics() if isinstance(self._queue, SequenceQueue) else None

    def warm_up(self, *, on_zeros: bool = True, timeout: float = 60.0) -> None:
        """Run the model before its first request, and find out how long batches take.

        Every instance runs what the options say, and, for a latency objective, batches of zeros of all sizes
        are timed. Nothing of it is counted.

        Parameters
        ----------
        on_zeros
            Whether to run it on zeros in any case, so that the first request does not pay for what is done
            once. A model that does not take zeros is let be; its objective then has no effect but the
            fall-back's.
        timeout
            Seconds that what the options say may wait for a lane and a token, each time.

        Raises
        ------
        YaisError
            What the options say cannot be run; DeadlineExceeded if no lane or no token came free.
        """
        rehearsal = Rehearsal(self._make_runner, timeout)
        for instance in range(self.options.instances):
            for sample in self.options.warm_up:
                inputs = sample_inputs(self.signature, sample)
                for _ in range(max(sample.count, 1)):
                    rehearsal.run(inputs, instance)
        if on_zeros or self.options.slo is not None:
            try:
                self._time_zeros(Rehearsal(self._make_runner, min(timeout, 1.0)))
            except YaisError as error:
                # Zeros are not good input for every model; then the first requests tell how long it takes.
                _log.info("model '%s' was not run on zeros: %s", self.name, error)

    def _time_zeros(self, rehearsal: Rehearsal) -> None:
        for instance, engine in enumerate(self._runner.engines):
            if engine in self._runner.engines[:instance]:
                continue
            for _ in range(3):  # the first runs are slower
                record = rehearsal.run(zeros(self.signature), instance)
            if not self._runner.on_device[instance] and not self._runner.blocks:
                self._runner.pace.observe(1, record.infer_end - record.infer_start, here=False)
        if isinstance(self._queue, SloQueue):
            largest, percentile = self.signature.max_batch, self._queue.policy.percentile

            def run(size: int) -> int:
                return rehearsal.run(zeros(self.signature, size)).total

            self._queue.measured(measure(run, largest, percentile))

    def _make_runner(self, statistics: ModelStatistics) -> Runner:
        return Runner(
            self.signature,
            self.version,
            self._engine,
            self._site_of,
            statistics,
            instances=self.options.instances,
            adapters=adapters_of(self.options, self.signature),
            stateful=self.options.sequences is not None,
        )

    def _site_of(self, gpu: int | None) -> Site:
        if gpu is None:
            return self._host
        if self._sites is None:
            raise FailedPrecondition(f"got an engine of '{self.name}' on GPU {gpu}, expected one on the host")
        return self._sites.of(gpu)

    def close(self, timeout: float) -> bool:
        """Refuse new requests, let those in flight end, free the engine.

        Returns
        -------
        bool
            Whether they ended within `timeout` seconds. If not, those that still wait fail with
            Unavailable, and the engine is left alone.
        """
        drained = self._scheduler.close(timeout)
        self._unlimit()
        self._intake.close()
        if drained:
            try:
                self._engine.close()
            finally:
                if self._on_close is not None:
                    self._on_close()
        return drained

    def _limit(self, limiter: RateLimiter, rate: Sequence[RateNeeds]) -> None:
        try:
            for instance, needs in enumerate(rate):
                name = f"{self.name}_{self.version}_{instance}"
                self._permits.append(limiter.register(name, needs, self._scheduler.granted))
        except BaseException:
            self._unlimit()
            raise
        self._scheduler.limit(self._permits)

    def _unlimit(self) -> None:
        for permits in self._permits:
            assert self._limiter is not None
            self._limiter.unregister(permits)
