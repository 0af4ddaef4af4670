"""Engines and signatures of what users register as a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from yais.core.tensor import TensorSpec
from yais.engines.engine import Engine
from yais.errors import InvalidArgument
from yais.inference.layout import Signature
from yais.inference.profile import Profile

__all__ = ["DEFAULT_MAX_BATCH", "load_engine", "signature_of"]

DEFAULT_MAX_BATCH = 32
"""Largest batch of a model that does not say; a guess, since memory is planned for it."""


def load_engine(
    model: str | Path | bytes | Engine | Callable[..., Any],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    options: Any,
) -> Engine:
    """Return an engine for a model; see `InferenceManager.register`. Raises InvalidArgument."""
    is_engine = hasattr(model, "execute") and hasattr(model, "select")
    if options is not None and (is_engine or callable(model)):
        raise InvalidArgument(f"got options for {model!r}, expected them for an ONNX model only")
    if is_engine:
        if inputs or outputs:
            raise InvalidArgument(f"got inputs or outputs for {model!r}, which says itself what it takes")
        return cast("Engine", model)
    if callable(model):
        from yais.engines.python import PythonEngine
        from yais.engines.python_pipeline import PythonPipeline, is_pipeline

        if not inputs or not outputs:
            raise InvalidArgument(f"got no specs for {model!r}, expected inputs=[...] and outputs=[...]")
        for spec in (*inputs, *outputs):
            if not isinstance(spec, TensorSpec):
                raise InvalidArgument(f"got {spec!r} among the inputs and outputs, expected a TensorSpec")
        if is_pipeline(model):
            return PythonPipeline(model, inputs, outputs, on_close=lambda: None)
        try:
            return PythonEngine(model, inputs=inputs, outputs=outputs)
        except ValueError as error:
            raise InvalidArgument(str(error)) from None
    if inputs or outputs:
        raise InvalidArgument(
            "got inputs or outputs for a model file, which says itself what it takes and gives"
        )
    if isinstance(model, str | Path):
        model = Path(model)
        if model.suffix in {".plan", ".engine"}:
            raise InvalidArgument(f"got {model}: TensorRT plans are not supported yet")
        if not model.is_file():
            raise InvalidArgument(f"got model {model}, expected a file, an engine or a callable")
    elif not isinstance(model, bytes):
        raise InvalidArgument(
            f"got a model of {type(model).__name__}, expected a file, an engine or a callable"
        )
    from yais.engines.onnx import OnnxEngine, OnnxOptions

    return OnnxEngine(model, options or OnnxOptions())


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
        max_batch_size = DEFAULT_MAX_BATCH if can_batch else 0
    if max_batch_size < 0 or (max_batch_size and not can_batch):
        raise InvalidArgument(
            f"got max_batch_size={max_batch_size} for model '{name}', expected 0 or more, and more than 0 "
            f"only where the first dimension of every tensor is -1; it has {', '.join(map(str, tensors))}"
        )
    first = 1 if max_batch_size else 0
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
    return Signature(name, inputs, outputs, max_batch_size, dict(profiles))


def _agree(declared: Sequence[int], shape: Sequence[int]) -> bool:
    return len(declared) == len(shape) and all(
        want in {-1, size} for want, size in zip(declared, shape, strict=True)
    )
