"""Plans of TensorRT as a kind of engine."""

from __future__ import annotations

from pathlib import Path

from yais.engines.engine import Engine
from yais.engines.kinds import EngineKind, EngineSettings
from yais.engines.tensorrt_options import TensorRTOptions
from yais.errors import InvalidArgument

__all__ = ["KIND", "load_plan"]

_BUDGET = "weight_streaming_budget"


def load_plan(plan: Path | bytes, settings: EngineSettings) -> Engine:
    """Return an engine for a plan; see `EngineKind.load`. It takes contents as well."""
    from yais.engines.tensorrt import TensorRTEngine
    from yais.memory.cuda.device import cuda_device

    options = _options(settings)
    return TensorRTEngine(plan, cuda_device(settings.gpu or 0), options)


def _options(settings: EngineSettings) -> TensorRTOptions:
    budget = settings.parameters.get(_BUDGET)
    return TensorRTOptions(
        contexts=settings.instances,
        profiles=tuple([_number("profile", name, settings) for name in settings.profiles]),
        graphs=settings.graphs,
        weights=settings.parameters.get("weights", "device"),  # type: ignore[arg-type]  # which it checks
        weight_streaming_budget=None if budget is None else _number(_BUDGET, budget, settings),
    )


def _number(what: str, text: str, settings: EngineSettings) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InvalidArgument(f"got {what} '{text}' for model '{settings.name}', expected a number from 0 on")
    return int(text)


KIND = EngineKind(
    name="tensorrt",
    platform="tensorrt_plan",
    filename="model.plan",
    suffixes=(".plan", ".engine", ".trt"),
    load=load_plan,
    uses_cpus=False,
    uses_gpus=True,
    parameters=("weights", _BUDGET),
)
