"""Engines and signatures of what users register as a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from yais.core.tensor import TensorSpec
from yais.engines import tensorrt_kind
from yais.engines.engine import Engine, placed
from yais.engines.kinds import EngineKind, EngineSettings, engine_kinds
from yais.engines.tensorrt_plan import is_plan
from yais.errors import InvalidArgument
from yais.inference.layout import Signature
from yais.inference.profile import Profile

__all__ = ["DEFAULT_MAX_BATCH", "engine_profiles", "load_engine", "max_batch_of", "signature_of"]

DEFAULT_MAX_BATCH = 32
"""Largest batch of a model that does not say; a guess, since memory is planned for it."""


def load_engine(
    model: str | Path | bytes | Engine | Callable[..., Any],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    options: Any,
    *,
    gpu: int | None = None,
    instances: int = 1,
    max_batch: int | None = None,
) -> Engine:
    """Return an engine for a model; see `InferenceManager.register`.

    Parameters
    ----------
    gpu
        To load a file for; None leaves it to the model where it is.
    instances
        Executions of it at once.
    max_batch
        Largest batch; None where nothing says.

    Raises
    ------
    InvalidArgument
        The model cannot be loaded, or is not to be loaded so.
    FailedPrecondition
        Something is missing to run it: a package, or a GPU.
    """
    is_engine = hasattr(model, "execute") and hasattr(model, "select")
    if options is not None and (is_engine or callable(model)):
        raise InvalidArgument(f"got options for {model!r}, expected them for a model file only")
    if is_engine:
        if inputs or outputs:
            raise InvalidArgument(f"got inputs or outputs for {model!r}, which says itself what it takes")
        return cast("Engine", model)
    if callable(model):
        return _python_engine(model, inputs, outputs)
    if not isinstance(model, str | Path | bytes):
        raise InvalidArgument(
            f"got a model of {type(model).__name__}, expected a file, an engine or a callable"
        )
    model = Path(model) if isinstance(model, str) else model
    kind = _kind_of(model)
    if kind is not None:
        settings = EngineSettings(
            name=kind.name if isinstance(model, bytes) else model.stem,
            gpu=0 if gpu is None and not kind.uses_cpus else gpu,
            instances=instances,
            max_batch=max_batch or 0,
            parameters=_parameters(kind, options),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
        )
        return _kind_engine(kind, model, settings)
    if inputs or outputs:
        raise InvalidArgument(
            "got inputs or outputs for an ONNX model, which says itself what it takes and gives"
        )
    return _onnx_engine(model, options, gpu, DEFAULT_MAX_BATCH if max_batch is None else max_batch)


def _python_engine(
    function: Callable[..., Any], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> Engine:
    from yais.engines.python import PythonEngine
    from yais.engines.python_pipeline import PythonPipeline, is_pipeline

    if not inputs or not outputs:
        raise InvalidArgument(f"got no specs for {function!r}, expected inputs=[...] and outputs=[...]")
    for spec in (*inputs, *outputs):
        if not isinstance(spec, TensorSpec):
            raise InvalidArgument(f"got {spec!r} among the inputs and outputs, expected a TensorSpec")
    if is_pipeline(function):
        return PythonPipeline(function, inputs, outputs, on_close=lambda: None)
    try:
        return PythonEngine(function, inputs=inputs, outputs=outputs)
    except ValueError as error:
        raise InvalidArgument(str(error)) from None


def _kind_of(model: Path | bytes) -> EngineKind | None:
    """Return the kind of engines that runs a model; None for ONNX Runtime."""
    if isinstance(model, bytes):
        return tensorrt_kind.KIND if is_plan(model) else None
    if not model.exists():
        raise InvalidArgument(f"got model {model}, expected a file, an engine or a callable")
    return next((kind for kind in engine_kinds().values() if model.suffix in kind.suffixes), None)


def _kind_engine(kind: EngineKind, model: Path | bytes, settings: EngineSettings) -> Engine:
    if isinstance(model, bytes):
        return tensorrt_kind.load_plan(model, settings)
    if settings.gpu is not None and not kind.uses_gpus:
        raise InvalidArgument(f"got GPU {settings.gpu} for {model}, and {kind.name} models use none")
    return kind.load(model, settings)


def _parameters(kind: EngineKind, options: Any) -> Mapping[str, str]:
    parameters = {} if options is None else options
    if not isinstance(parameters, Mapping):
        raise InvalidArgument(f"got options {options!r}, expected a dict of parameters of {kind.name}")
    unknown = set(parameters) - set(parameters if kind.parameters is None else kind.parameters)
    if unknown:
        expected = ", ".join(kind.parameters or ()) or "none"
        raise InvalidArgument(f"got options {sorted(unknown)}, expected some of {kind.name}'s: {expected}")
    return {key: str(value) for key, value in parameters.items()}


def _onnx_engine(model: Path | bytes, options: Any, gpu: int | None, max_batch: int) -> Engine:
    from yais.engines.onnx import OnnxEngine, OnnxOptions
    from yais.engines.onnx_options import OnnxProvider

    if isinstance(model, Path) and not model.is_file():
        raise InvalidArgument(f"got model {model}, expected a file, an engine or a callable")
    options = OnnxOptions() if options is None else options
    if not isinstance(options, OnnxOptions):
        raise InvalidArgument(f"got options {options!r} for an ONNX model, expected OnnxOptions")
    if gpu is None:
        return OnnxEngine(model, options)
    from yais.engines.onnx_device import load_on_gpu

    providers = [
        OnnxProvider(each.name, {**each.options, "device_id": str(gpu)})
        for each in options.providers or [OnnxProvider("CUDAExecutionProvider")]
    ]
    placed = dataclasses.replace(options, providers=tuple(providers))
    return load_on_gpu(model, placed, gpu=gpu, max_batch=max_batch)


def signature_of(
    name: str, engine: Engine, max_batch_size: int | None, profiles: Mapping[str, Profile]
) -> Signature:
    """Return what a model takes and gives, the batch dimension set apart.

    Raises
    ------
    InvalidArgument
        `max_batch_size` or a profile contradicts the model.
    """
    tensors = (*engine.inputs, *engine.outputs)
    can_batch = bool(tensors) and all(spec.shape and spec.shape[0] == -1 for spec in tensors)
    if max_batch_size is None:
        most = max_batch_of(engine) or DEFAULT_MAX_BATCH
        max_batch_size = min(DEFAULT_MAX_BATCH, most) if can_batch else 0
    if max_batch_size < 0 or (max_batch_size and not can_batch):
        raise InvalidArgument(
            f"got max_batch_size={max_batch_size} for model '{name}', expected 0 or more, and more than 0 "
            f"only where the first dimension of every tensor is -1; it has {', '.join(map(str, tensors))}"
        )
    first = 1 if max_batch_size else 0
    largest = max_batch_of(engine)
    if largest and max_batch_size > largest:
        raise InvalidArgument(
            f"got max_batch_size={max_batch_size} for model '{name}', expected at most {largest}, the "
            "largest batch that the model takes"
        )
    inputs = tuple(TensorSpec(spec.name, spec.datatype, spec.shape[first:]) for spec in engine.inputs)
    outputs = tuple(TensorSpec(spec.name, spec.datatype, spec.shape[first:]) for spec in engine.outputs)
    known = {spec.name: spec for spec in inputs}
    for tensor, profile in profiles.items():
        spec = known.get(tensor)
        if (
            spec is None
            or not _agree(spec.shape, profile.largest)
            or not _agree(spec.shape, profile.smallest)
        ):
            raise InvalidArgument(
                f"got a profile of {list(profile.largest)} for '{tensor}' of model '{name}', expected one of "
                f"an input, without the batch: {', '.join(map(str, inputs))}"
            )
    bounds = engine_profiles(engine, (*inputs, *outputs), batching=bool(max_batch_size))
    return Signature(name, inputs, outputs, max_batch_size, {**bounds, **profiles})


def max_batch_of(engine: Engine) -> int:
    """Return the largest batch that an engine takes; 0 where it does not say."""
    return int(getattr(placed(engine), "max_batch", 0))


def engine_profiles(
    engine: Engine, tensors: Iterable[TensorSpec], *, batching: bool
) -> Mapping[str, Profile]:
    """Return the sizes that an engine says of tensors with dimensions of any size.

    Parameters
    ----------
    tensors
        As requests see them, without the batch dimension.
    batching
        Whether the engine's have one.
    """
    first = 1 if batching else 0
    smallest: Mapping[str, Sequence[int]] = getattr(placed(engine), "smallest", {})
    largest: Mapping[str, Sequence[int]] = getattr(placed(engine), "largest", {})
    return {
        spec.name: Profile(tuple(smallest[spec.name][first:]), tuple(largest[spec.name][first:]))
        for spec in tensors
        if -1 in spec.shape and spec.name in largest
    }


def _agree(declared: Sequence[int], shape: Sequence[int]) -> bool:
    return len(declared) == len(shape) and all(
        want in {-1, size} for want, size in zip(declared, shape, strict=True)
    )
