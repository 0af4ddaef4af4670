"""Models that are loaded once for each of several GPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from yais.core.tensor import TensorSpec
from yais.engines.engine import Engine
from yais.engines.placed_engine import PlacedEngine, load_placed
from yais.errors import InvalidArgument
from yais.inference.loading import load_engine

__all__ = ["engine_on"]


def engine_on(
    gpus: Sequence[int],
    model: str | Path | bytes | Engine | Callable[..., Any],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    options: Any,
    *,
    limit: int,
    concurrency: int | None,
    max_batch: int | None,
) -> Engine:
    """Return an engine for a model that is on some GPUs; see `InferenceManager.register`.

    Parameters
    ----------
    gpus
        Their numbers; none leaves it to the model where it is.
    model, inputs, outputs, options
        As of `load_engine`.
    limit, concurrency
        Instances on each of the GPUs: at most, and wanted; None for as many as may be.
    max_batch
        Largest batch; None where nothing says.

    Raises
    ------
    InvalidArgument
        A number is none of a GPU, or is there twice, or the model cannot be told where to be.
    """
    if concurrency is not None and isinstance(model, PlacedEngine):
        raise InvalidArgument(f"got concurrency={concurrency} for {model!r}, expected none: it says itself")
    instances = min(max(1, limit if concurrency is None else concurrency), limit)
    if isinstance(gpus, int):  # 0 would pass for none
        raise InvalidArgument(f"got gpus={gpus}, expected numbers of GPUs, such as ({gpus},)")
    if not gpus:
        return load_engine(model, inputs, outputs, options, instances=instances, max_batch=max_batch)
    wanted = list(gpus)
    if len(set(wanted)) < len(wanted) or not all(type(gpu) is int and gpu >= 0 for gpu in wanted):
        raise InvalidArgument(f"got gpus={wanted}, expected different numbers of GPUs, from 0 on")
    if not isinstance(model, str | Path | bytes):
        raise InvalidArgument(f"got gpus={wanted} for {model!r}, expected them for a file only")

    def load(gpu: int | None) -> Engine:
        return load_engine(model, inputs, outputs, options, gpu=gpu, instances=instances, max_batch=max_batch)

    return load_placed(load, [gpu for gpu in wanted for _ in range(instances)])
