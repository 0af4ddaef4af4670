"""InferenceManager: models in this process, on bounded threads, memory and execution tokens."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from yais.core.clock import Deadline
from yais.core.loop_thread import LoopThread
from yais.core.pool import PoolStatistics
from yais.core.tensor import TensorSpec
from yais.core.thread_pool import ThreadPool
from yais.core.timer import Timer
from yais.engines.engine import Engine
from yais.engines.python_pipeline import PythonPipeline
from yais.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from yais.infer_runner import Post, Pre
from yais.inference.capacity import Capacity
from yais.inference.gpu_engines import engine_on
from yais.inference.infer_runner import InferRunner
from yais.inference.layout import Signature
from yais.inference.model import Model
from yais.inference.model_options import ModelOptions
from yais.inference.pipeline import PipelineModel
from yais.inference.plan import CapacityPlan
from yais.inference.profile import Profile
from yais.inference.registration import Registration, batch_limit, registration
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.slo import SloPolicy
from yais.inference.servable import Servable
from yais.inference.site import Site, SiteStatistics
from yais.inference.sites import Sites
from yais.inference.tokens import Tokens
from yais.lane import Device, Lanes, Placement
from yais.memory.resource import MemoryResource
from yais.memory.tracked import MemoryTracker

if TYPE_CHECKING:
    from yais.serving.managed import ManagedServer

__all__ = ["InferenceManager", "ManagerStatistics"]

_log = logging.getLogger("yais.inference")

_VERSION = "1"  # models of a manager have no other


@dataclass(frozen=True, slots=True)
class ManagerStatistics:
    """What is shared by all models of a manager: how many there are, are free and are waited for.

    Attributes
    ----------
    tokens, lanes
        Of the host.
    gpus
        Of each GPU that has models, by its number.
    """

    tokens: PoolStatistics
    lanes: PoolStatistics
    gpus: Mapping[int, SiteStatistics] = field(default_factory=dict)


class InferenceManager:
    """Runs models on so many threads, buffers and execution tokens. Thread-safe; a context manager.

    Register models, `allocate`, then ask for runners. The counts are the policy: `max_exec_concurrency`
    executions at once whatever the model, each model's own `concurrency` below that, and
    `max_copy_concurrency` requests whose data is in staging memory. What waits for one of them waits in
    order.

    Parameters
    ----------
    max_exec_concurrency
        Execution tokens, on the host and on each GPU.
    max_copy_concurrency
        Lanes (the original's buffers), on the host and on each GPU; by default twice the tokens, so that data
        is copied while other data is computed.
    pre_threads, execute_threads, post_threads
        Threads for gathering inputs and `pre` callables, for executing, and for handing out outputs and
        `post` callables; on each place. By default 1, one for each token, and 3.
    places
        Where lanes sit: `yais.lane.placements(Topology.read())` gives one for each NUMA node or GPU. By
        default one place, anywhere.
    memory
        Where staging memory comes from; by default host memory on the node of each place.
    device, scratch
        The device of the host's lanes, and where activation memory comes from, for engines that need them and
        are on no GPU in particular.
    gpus
        Makes the device of a GPU, for engines that are on one: see `yais.inference.sites.Sites`.

    Raises
    ------
    ValueError
        A number is below 1.

    Examples
    --------
    >>> manager = yais.InferenceManager(max_exec_concurrency=2)
    >>> manager.register("mnist", "mnist.onnx", concurrency=2)
    >>> print(manager.allocate())
    >>> outputs = manager.infer_runner("mnist").infer(Input3=images).get(timeout=5.0)
    """

    def __init__(
        self,
        max_exec_concurrency: int = 1,
        max_copy_concurrency: int | None = None,
        *,
        pre_threads: int = 1,
        execute_threads: int | None = None,
        post_threads: int = 3,
        places: Sequence[Placement] = (),
        memory: MemoryResource | None = None,
        device: Device | None = None,
        scratch: MemoryResource | None = None,
        gpus: Callable[[int], Device] | None = None,
    ) -> None:
        self.max_exec_concurrency = max_exec_concurrency
        self.max_copy_concurrency = (
            2 * max_exec_concurrency if max_copy_concurrency is None else max_copy_concurrency
        )
        execute_threads = max_exec_concurrency if execute_threads is None else execute_threads
        threads = (pre_threads, execute_threads, post_threads)
        if min(max_exec_concurrency, self.max_copy_concurrency, *threads) < 1:
            raise ValueError(
                f"got max_exec_concurrency={max_exec_concurrency}, "
                f"max_copy_concurrency={max_copy_concurrency} and {threads} threads, "
                "expected at least 1 of each"
            )
        self._lanes = Lanes(
            "infer",
            threads={"pre": pre_threads, "execute": execute_threads, "post": post_threads},
            count=self.max_copy_concurrency,
            places=places,
            memory=memory,
            device=device,
        )
        self._tokens = Tokens(max_exec_concurrency, memory=scratch)
        self._sites = Sites(
            Site(self._lanes, self._tokens),
            gpus=gpus,
            executions=max_exec_concurrency,
            lanes=self.max_copy_concurrency,
            name="infer",
        )
        self._timer = Timer("infer-timer")
        self._loop = LoopThread("infer-pipelines")
        self._homes = itertools.cycle(self._lanes.threads)
        self._lock = threading.Lock()
        self._models: dict[str, Registration] = {}
        self._ending: list[Registration] = []  # those that did not end in time: `close` looks again
        self._capacity = Capacity(self._sites)
        self._closed = False

    def __repr__(self) -> str:
        entries = list(self._models.values())  # others may register meanwhile
        ready = sum(entry.model is not None for entry in entries)
        return (
            f"<InferenceManager: {ready} of {len(entries)} models ready, {self._tokens.pool!r}, "
            f"{self._lanes.pool!r}>"
        )

    def register(
        self,
        name: str,
        model: str | Path | bytes | Engine | Callable[..., Any],
        *,
        concurrency: int | None = None,
        max_batch_size: int | None = None,
        batching: BatchingPolicy | SloPolicy | None = None,
        inputs: Sequence[TensorSpec] = (),
        outputs: Sequence[TensorSpec] = (),
        profiles: Mapping[str, Profile] | None = None,
        options: Any = None,
        gpus: Sequence[int] = (),
    ) -> None:
        """Load a model. It takes requests after `allocate`, or at once if that was called and the model fits.

        Parameters
        ----------
        name
            What to call it.
        model
            A path of an ONNX file or its contents, of a plan of TensorRT or its contents, or of a file of
            another of `yais.engines.kinds.engine_kinds`, an engine, or a callable over a dict of arrays (see
            `yais.engines.python.PythonEngine`: plain, a generator, or `async`), or a pipeline: an
            `async def` of `inputs` and `models`, the manager's models, which it asks with
            `await models["name"].infer(...)`. The manager closes an engine that it has taken.
        concurrency
            Executions of it at once, at most `max_exec_concurrency`, which is the default; on each of `gpus`.
            For an engine on a device, requests that are copied or executed at once: at most
            `max_copy_concurrency`, which is the default.
            For a pipeline, which executes nothing itself, requests at once: 64 by default. A `PlacedEngine`
            says itself how many, and where.
        max_batch_size
            Largest batch; 0 for a model without a batch dimension. By default 32 where the first dimension of
            every tensor is of any size, else 0.
        batching
            Joins requests that come close together, or as many as a latency objective allows; by default
            each runs on its own.
        inputs, outputs
            Of a callable: what it takes and gives, with a leading -1 for a batch.
        profiles
            For inputs with dimensions of any size, the sizes to allow and to plan memory for.
        options
            `yais.engines.onnx.OnnxOptions` of an ONNX model; of others a dict of the parameters that their
            kind of engines knows.
        gpus
            Numbers of the GPUs to load a file for; it has `concurrency` instances on each. By default that is
            up to the model.

        Raises
        ------
        AlreadyExists
            There is a model of that name.
        InvalidArgument
            The model cannot be loaded, or what was said of it contradicts it.
        FailedPrecondition
            The manager is closed.
        """
        self._check_new(name)
        limit = self.max_exec_concurrency
        engine = engine_on(
            gpus,
            model,
            inputs,
            outputs,
            options,
            limit=self.max_copy_concurrency if gpus else limit,
            concurrency=concurrency,
            max_batch=batch_limit(batching) if max_batch_size is None else max_batch_size,
        )
        try:
            entry = registration(
                name,
                engine,
                limit=limit,
                lanes=self.max_copy_concurrency,
                concurrency=concurrency,
                max_batch_size=max_batch_size,
                batching=batching,
                profiles=profiles or {},
                warms_up=isinstance(model, str | Path | bytes),
            )
            with self._lock:
                self._check_new(name)
                if self._capacity.allocated:
                    self._make_ready(entry)
                self._models[name] = entry
        except BaseException:
            if engine is not model:  # that one stays the caller's
                engine.close()
            raise
        if self._capacity.allocated and entry.model is None:
            _log.warning("%s", self._capacity.lacking(entry.plans))

    def plan(self) -> CapacityPlan:
        """Return what `allocate` will take, and allocate nothing."""
        return self._capacity.plan([entry.plans for entry in list(self._models.values())])

    def allocate(self, timeout: float = 60.0) -> CapacityPlan:
        """Allocate memory for all models registered so far, and make them ready; log the plan and return it.

        May be called again after further registrations: what is in use already ends undisturbed, and is
        waited for up to `timeout` seconds.

        Raises
        ------
        DeadlineExceeded
            A lane or a token did not come back in time.
        OSError, MemoryError
            There is not so much memory.
        FailedPrecondition
            The manager is closed, or a model is on a GPU that cannot be used.
        """
        with self._lock:
            self._check_open()
            plan = self.plan()
            for line in str(plan).splitlines():
                _log.info("%s", line)
            self._capacity.reserve(plan, timeout)
            for entry in self._models.values():
                self._make_ready(entry)
        return plan

    def update_resources(self, timeout: float = 60.0) -> CapacityPlan:
        """Do as `allocate`: the original's name for it."""
        return self.allocate(timeout)

    @property
    def memory(self) -> MemoryTracker:
        """What its lanes have of memory, by place."""
        return self._lanes.memory

    def statistics(self) -> ManagerStatistics:
        """Return the numbers of now."""
        host = self._sites.of(None).statistics()
        gpus = {gpu: site.statistics() for gpu, site in self._sites.gpus.items()}
        return ManagerStatistics(host.tokens, host.lanes, gpus)

    def get_models(self) -> list[str]:
        """Return the names of the models that take requests."""
        return sorted(name for name, entry in list(self._models.items()) if entry.model is not None)

    def infer_runner(
        self, name: str, version: str = "", *, pre: Pre | None = None, post: Post | None = None
    ) -> InferRunner:
        """Return a runner for a model.

        Parameters
        ----------
        version
            "1", or empty.
        pre, post
            Make the model's inputs of what `infer` is given, and the future's result of the outputs. They run
            on the manager's "pre" and "post" threads.

        Raises
        ------
        NotFound
            There is no such model.
        FailedPrecondition
            There is no memory for it yet: call `allocate`. Or the manager is closed.
        """
        self._check_open()
        model = self.find(name, version)
        sites = model.sites if isinstance(model, Model) else [self._sites.of(None)]
        lanes = [site.lanes for site in sites]
        return InferRunner(model, lanes, self._timer, pre=pre, post=post, threads=self._pool)

    def find(self, name: str, version: str = "") -> Servable:
        """Return a model itself; raises as `infer_runner`."""
        entry = self._models.get(name)
        if entry is None or version not in {"", _VERSION}:
            which = f"'{name}'" + (f" version {version}" if version else "")
            raise NotFound(f"got model {which}, expected one of {sorted(self._models)}, version {_VERSION}")
        if entry.model is None:
            raise FailedPrecondition(self._capacity.lacking(entry.plans))
        return entry.model

    def unregister(self, name: str, timeout: float = 30.0) -> bool:
        """Refuse new requests to a model, let those in flight end, and free it. Waits for an `allocate`, too.

        Returns
        -------
        bool
            Whether they ended within `timeout` seconds. If not, those that still wait fail with Unavailable.

        Raises
        ------
        NotFound
            There is no such model.
        """
        with self._lock:
            entry = self._models.pop(name, None)
        if entry is None:
            raise NotFound(f"got model '{name}', expected one of {sorted(self._models)}")
        ended = entry.close(timeout)
        if not ended:
            self._ending.append(entry)
        return ended

    def serve(
        self,
        port: int = 8001,
        block: bool = True,
        *,
        address: str = "0.0.0.0",
        http_port: int | None = None,
        metrics_port: int | None = None,
    ) -> ManagedServer:
        """Serve the models over KServe v2, until SIGTERM or SIGINT, or in the background.

        Parameters
        ----------
        port
            0 takes a free one.
        block
            Whether to return when the server has stopped; only on the main thread. If not, a server is
            returned that runs: it has a `port`, and `stop` drains it.
        http_port
            Where to serve HTTP, too; by default not at all.
        metrics_port
            Where to offer metrics for Prometheus; by default not at all.

        Raises
        ------
        OSError
            The address cannot be bound.
        """
        from yais.serving.managed import ManagedServer  # the one import upwards (docs/architecture.md)

        server = ManagedServer(
            self, address=address, port=port, http_port=http_port, metrics_port=metrics_port
        )
        server.start()
        if block:
            server.run()
        return server

    def close(self, timeout: float = 30.0) -> bool:
        """Unregister all models, end the threads, free the memory; return whether all ended. Idempotent.

        Not on a thread of the manager: not in a done-callback, `pre`, `post` or a model.
        """
        deadline = Deadline.after(timeout)
        with self._lock:
            self._closed = True
            entries = [*self._ending, *self._models.values()]
            self._models.clear()
        entries.sort(key=lambda entry: not entry.composed)  # those that ask others end first
        self._ending = [entry for entry in entries if not entry.close(deadline.remaining() or 0.0)]
        self._loop.close(5.0)
        drained = not self._ending
        self._timer.close(5.0)
        return self._sites.close(deadline.remaining() or 0.0) and drained

    def __enter__(self) -> Self:
        """Return the manager itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise FailedPrecondition(f"{self!r} is closed, expected an open one")

    def _check_new(self, name: str) -> None:
        self._check_open()
        if not isinstance(name, str) or not name:
            raise InvalidArgument(f"got model name {name!r}, expected some text")
        if name in self._models:
            raise AlreadyExists(f"model '{name}' is registered already")

    def _make_ready(self, entry: Registration) -> None:
        if entry.model is not None or not self._capacity.fits(entry.plans):
            return
        if isinstance(entry.engine, PythonPipeline):
            entry.model = self._pipeline(entry.signature, entry.engine, entry.options)
            return
        model = Model(
            entry.signature,
            _VERSION,
            entry.engine,
            entry.options,
            lanes=self._lanes,
            tokens=self._tokens,
            timer=self._timer,
            sites=self._sites,
        )
        model.warm_up(on_zeros=entry.warms_up)
        entry.model = model

    def _pipeline(
        self, signature: Signature, pipeline: PythonPipeline, options: ModelOptions
    ) -> PipelineModel:
        return PipelineModel(
            signature,
            _VERSION,
            pipeline.function,
            find=self.find,
            loop=self._loop,
            instances=options.instances,
            on_close=pipeline.close,
        )

    def _pool(self, stage: str) -> ThreadPool:
        return next(self._homes)[stage]
