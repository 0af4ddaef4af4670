"""Registrations: models of a manager, and what each needs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from yais.engines.engine import Engine
from yais.errors import InvalidArgument
from yais.inference.layout import Signature
from yais.inference.loading import signature_of
from yais.inference.model import Model
from yais.inference.model_options import ModelOptions
from yais.inference.plan import ModelPlan, model_plan
from yais.inference.profile import Profile
from yais.inference.scheduling.dynamic import BatchingPolicy

__all__ = ["Registration", "registration"]

_log = logging.getLogger("yais.inference")


@dataclass(slots=True, eq=False)
class Registration:
    """A model and what it needs.

    Attributes
    ----------
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
    model: Model | None = None

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
    batching: BatchingPolicy | None,
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
    wanted = limit if concurrency is None else concurrency
    if wanted < 1:
        raise InvalidArgument(f"got concurrency={concurrency} for model '{name}', expected 1 to {limit}")
    if wanted > limit:
        _log.warning("model '%s': concurrency %d is cut to max_exec_concurrency %d", name, wanted, limit)
    if batching is not None and max_batch_size is None:
        max_batch_size = batching.max_batch
    signature = signature_of(name, engine, max_batch_size, profiles)
    if batching is not None and batching.max_batch != signature.max_batch:
        raise InvalidArgument(
            f"got batching of up to {batching.max_batch} for model '{name}', expected max_batch_size "
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
    return Registration(signature, engine, ModelOptions(batching, instances), plan, warms_up)
