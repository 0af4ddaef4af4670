"""Registrations: models of a manager, and what each needs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from yais.core.tensor import TensorSpec
from yais.engines.engine import Engine, placed
from yais.engines.placed_engine import PlacedEngine
from yais.engines.python_pipeline import DEFAULT_PIPELINES, PythonPipeline
from yais.errors import InvalidArgument
from yais.inference.capacity import SitePlans
from yais.inference.layout import Signature
from yais.inference.loading import signature_of
from yais.inference.model_options import ModelOptions
from yais.inference.plan import ModelPlan, model_plan
from yais.inference.profile import Profile
from yais.inference.runner import engines_of, gpu_of
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.slo import SloPolicy
from yais.inference.servable import Servable

__all__ = ["Registration", "batch_limit", "registration", "site_plans"]

_log = logging.getLogger("yais.inference")


@dataclass(slots=True, eq=False)
class Registration:
    """A model and what it needs.

    Attributes
    ----------
    engine
        A `PythonPipeline` for a model that is composed of others.
    plans
        What it needs, on each site that has instances.
    warms_up
        Whether it may be run on zeros before there are requests: user code may have effects.
    model
        None until there is memory for it.
    """

    signature: Signature
    engine: Engine
    options: ModelOptions
    plans: SitePlans
    warms_up: bool
    model: Servable | None = None

    @property
    def composed(self) -> bool:
        """Whether it asks other models."""
        return isinstance(self.engine, PythonPipeline)

    def close(self, timeout: float) -> bool:
        """Close the model, or the engine that never became one."""
        if self.model is not None:
            return self.model.close(timeout)
        self.engine.close()
        return True


def registration(
    name: str,
    engine: Engine,
    *,
    limit: int,
    lanes: int,
    concurrency: int | None,
    max_batch_size: int | None,
    batching: BatchingPolicy | SloPolicy | None,
    profiles: Mapping[str, Profile],
    warms_up: bool,
) -> Registration:
    """Return the registration of an engine; see `InferenceManager.register`.

    Parameters
    ----------
    limit
        Executions at once, of all models, on each site.
    lanes
        Batches whose data is on the way at once, of all models, on each site.

    Raises
    ------
    InvalidArgument
        What was said of the model contradicts it, or itself.
    """
    if isinstance(engine, PythonPipeline):
        return _pipeline_registration(
            name, engine, concurrency=concurrency, max_batch_size=max_batch_size, batching=batching
        )
    # On a device an instance is taken while inputs are copied there, too: with as many as lanes, copies for
    # one batch overlap the execution of another, and tokens bound what executes.
    on_device = hasattr(placed(engine), "begin")
    most, what = (lanes, "max_copy_concurrency") if on_device else (limit, "max_exec_concurrency")
    wanted = most if concurrency is None else concurrency
    if wanted < 1:
        raise InvalidArgument(f"got concurrency={concurrency} for model '{name}', expected 1 to {most}")
    if wanted > most:
        _log.warning("model '%s': concurrency %d is cut to %s %d", name, wanted, what, most)
    largest = batch_limit(batching)
    if largest is not None and max_batch_size is None:
        max_batch_size = largest
    signature = signature_of(name, engine, max_batch_size, profiles)
    if largest not in {None, signature.max_batch}:
        raise InvalidArgument(
            f"got batching of up to {largest} for model '{name}', expected max_batch_size "
            f"{signature.max_batch}"
        )
    if batching is not None and getattr(engine, "decoupled", False):
        raise InvalidArgument(
            f"got batching for model '{name}', which answers any number of times: expected none"
        )
    instances = engine.instances if isinstance(engine, PlacedEngine) else min(wanted, most)
    if isinstance(batching, SloPolicy):
        options = ModelOptions(instances=instances, slo=dataclasses.replace(batching, instances=instances))
    else:
        options = ModelOptions(batching, instances)
    plans = site_plans(signature, engines_of(engine, instances))
    return Registration(signature, engine, options, plans, warms_up)


def batch_limit(batching: BatchingPolicy | SloPolicy | None) -> int | None:
    """Return the largest batch of a policy; None without one."""
    policy = batching.batching if isinstance(batching, SloPolicy) else batching
    return policy.max_batch if policy is not None else None


def site_plans(signature: Signature, engines: Sequence[Engine]) -> SitePlans:
    """Return what the instances of a model need, on each site that has some of them.

    Parameters
    ----------
    engines
        Of the instances; one that is there several times has several.
    """
    by_gpu: dict[int | None, list[Engine]] = {}
    for each in engines:
        by_gpu.setdefault(gpu_of(each), []).append(each)
    return {
        gpu: model_plan(
            signature,
            len(those),
            scratch=max(getattr(each, "scratch_size", 0) for each in those),
            device=max(getattr(each, "device_size", 0) for each in those),
            on_device=any(hasattr(each, "begin") for each in those),
            states=_states(signature, those[0]),
        )
        for gpu, those in by_gpu.items()
    }


def _states(signature: Signature, engine: Engine) -> list[TensorSpec]:
    """Return what an engine gives and no request sees: what sequences keep."""
    seen = {spec.name for spec in signature.outputs}
    first = 1 if signature.max_batch else 0
    return [
        TensorSpec(spec.name, spec.datatype, spec.shape[first:])
        for spec in engine.outputs
        if spec.name not in seen
    ]


def _pipeline_registration(
    name: str,
    pipeline: PythonPipeline,
    *,
    concurrency: int | None,
    max_batch_size: int | None,
    batching: object,
) -> Registration:
    """Return the registration of a pipeline, which takes nothing of its own while it waits for others."""
    if batching is not None:
        raise InvalidArgument(f"got batching for the pipeline '{name}', expected it for the models it asks")
    instances = DEFAULT_PIPELINES if concurrency is None else concurrency
    if instances < 1:
        raise InvalidArgument(f"got concurrency={concurrency} for model '{name}', expected at least 1")
    signature = signature_of(name, pipeline, max_batch_size, {})
    plan = ModelPlan(name, instances, max(1, signature.max_batch), staging=0, scratch=0, device=0, open=())
    return Registration(signature, pipeline, ModelOptions(instances=instances), {None: plan}, warms_up=False)
