"""Registrations: models of a manager, and what each needs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from yais.engines.engine import Engine
from yais.engines.python_pipeline import DEFAULT_PIPELINES, PythonPipeline
from yais.errors import InvalidArgument
from yais.inference.layout import Signature
from yais.inference.loading import signature_of
from yais.inference.model_options import ModelOptions
from yais.inference.plan import ModelPlan, model_plan
from yais.inference.profile import Profile
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.slo import SloPolicy
from yais.inference.servable import Servable

__all__ = ["Registration", "registration"]

_log = logging.getLogger("yais.inference")


@dataclass(slots=True, eq=False)
class Registration:
    """A model and what it needs.

    Attributes
    ----------
    engine
        A `PythonPipeline` for a model that is composed of others.
    warms_up
        Whether it may be run on zeros before there are requests: user code may have effects.
    model
        None until there is memory for it.
    """

    signature: Signature
    engine: Engine
    options: ModelOptions
    plan: ModelPlan
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
        Executions at once, of all models.

    Raises
    ------
    InvalidArgument
        What was said of the model contradicts it, or itself.
    """
    if isinstance(engine, PythonPipeline):
        return _pipeline_registration(
            name, engine, concurrency=concurrency, max_batch_size=max_batch_size, batching=batching
        )
    wanted = limit if concurrency is None else concurrency
    if wanted < 1:
        raise InvalidArgument(f"got concurrency={concurrency} for model '{name}', expected 1 to {limit}")
    if wanted > limit:
        _log.warning("model '%s': concurrency %d is cut to max_exec_concurrency %d", name, wanted, limit)
    policy = batching.batching if isinstance(batching, SloPolicy) else batching
    largest = policy.max_batch if policy is not None else None
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
    instances = min(wanted, limit)
    plan = model_plan(
        signature,
        instances,
        scratch=getattr(engine, "scratch_size", 0),
        device=getattr(engine, "device_size", 0),
        on_device=hasattr(engine, "begin"),
    )
    if isinstance(batching, SloPolicy):
        options = ModelOptions(instances=instances, slo=dataclasses.replace(batching, instances=instances))
    else:
        options = ModelOptions(batching, instances)
    return Registration(signature, engine, options, plan, warms_up)


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
    return Registration(signature, pipeline, ModelOptions(instances=instances), plan, warms_up=False)
