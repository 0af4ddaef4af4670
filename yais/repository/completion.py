"""Completes configurations with what the models say themselves, and checks that the two agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yais.core.tensor import TensorSpec
from yais.engines.engine import Engine
from yais.engines.python_pipeline import DEFAULT_PIPELINES, PythonPipeline
from yais.errors import InvalidArgument
from yais.inference.loading import max_batch_of
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.backends import backend_of
from yais.repository.devices import Devices
from yais.repository.engine_tensors import engine_tensors
from yais.repository.normalisation import normalise
from yais.repository.platforms import is_ensemble
from yais.repository.slo_config import OWN_PREFIX
from yais.repository.tensors import TYPES, says_shapes
from yais.repository.validation import check

__all__ = ["DEFAULT_MAX_BATCH_SIZE", "complete"]

DEFAULT_MAX_BATCH_SIZE = 4
"""Given to a model that can batch and has no configuration; Triton's number."""

_ENGINES_OWN = ("dynamic_batching", "sequence_batching", "model_warmup")


def complete(
    config: ModelConfig,
    engine: Engine | None = None,
    *,
    directory: Path = Path(),
    auto_complete: bool = True,
    default_max_batch: int = DEFAULT_MAX_BATCH_SIZE,
) -> None:
    """Fill in what the model itself says, and the defaults; check that the two agree.

    Parameters
    ----------
    engine
        Of the model; an ensemble has none.
    directory
        Of the model, with the files that the configuration names.
    auto_complete
        Whether what the configuration lacks is taken from the model; else it must be complete.
    default_max_batch
        For a model that can batch and says nothing; above 1 its requests are batched, too.

    Raises
    ------
    InvalidArgument
        The configuration contradicts the model.
    """
    if engine is not None:
        if auto_complete:
            _fill_in(config, engine, default_max_batch)
        elif not config.input or not config.output:
            raise InvalidArgument(
                f"the configuration of model '{config.name}' lacks 'input' or 'output', and is not completed"
            )
        _check_decoupled(config, engine)
    if isinstance(engine, PythonPipeline) and not config.instance_group:
        config.instance_group.add(name=config.name, count=DEFAULT_PIPELINES)
    normalise(config, Devices.here())
    check(config)
    if isinstance(engine, PythonPipeline):
        _check_pipeline(config)
    if engine is not None:
        _check_tensors(config, engine, directory)
    elif not is_ensemble(config):
        raise InvalidArgument(f"model '{config.name}' is no ensemble, expected an engine")


def _fill_in(config: ModelConfig, engine: Engine, default_max_batch: int) -> None:
    tensors = (*engine.inputs, *engine.outputs)
    if not says_shapes(config) and all(spec.shape and spec.shape[0] == -1 for spec in tensors):
        config.max_batch_size = min(default_max_batch, max_batch_of(engine) or default_max_batch)
        if config.max_batch_size > 1 and config.WhichOneof("scheduling_choice") is None:
            config.dynamic_batching.SetInParent()
    sequences = config.sequence_batching
    own = {control.name for control in sequences.control_input}
    own |= {name for state in sequences.state for name in (state.input_name, state.output_name)}
    for listed, specs in ((config.input, engine.inputs), (config.output, engine.outputs)):
        if not listed:
            _add(listed, [spec for spec in specs if spec.name not in own], bool(config.max_batch_size))
    if getattr(engine, "decoupled", False) and not config.HasField("model_transaction_policy"):
        config.model_transaction_policy.decoupled = True


def _add(listed: Any, specs: Sequence[TensorSpec], batching: bool) -> None:
    for spec in specs:
        dims = spec.shape[1:] if batching else spec.shape
        listed.add(name=spec.name, data_type=TYPES[spec.datatype], dims=dims)


def _check_decoupled(config: ModelConfig, engine: Engine) -> None:
    decoupled = getattr(engine, "decoupled", False)
    configured = config.model_transaction_policy.decoupled
    if configured is not decoupled:
        raise InvalidArgument(
            f"got model_transaction_policy.decoupled {configured} for model '{config.name}', expected "
            f"{decoupled}: only a model whose 'execute' is a generator is decoupled"
        )


def _check_pipeline(config: ModelConfig) -> None:
    """Check that nothing is said that only a model with an engine has."""
    said = [field.name for field, _ in config.ListFields() if field.name in _ENGINES_OWN]
    said += [
        f"{kind}.reshape"
        for kind in ("input", "output")
        for tensor in getattr(config, kind)
        if tensor.HasField("reshape")
    ]
    said += [
        "instance_group.rate_limiter" for group in config.instance_group if group.HasField("rate_limiter")
    ]
    said += [key for key in config.parameters if key.startswith(OWN_PREFIX)]
    if said:
        raise InvalidArgument(
            f"model '{config.name}' is a pipeline, which calls other models, and is configured with "
            f"'{said[0]}': expected it of these"
        )


def _check_tensors(config: ModelConfig, engine: Engine, directory: Path) -> None:
    inputs, outputs = engine_tensors(config, directory)
    optional: tuple[TensorSpec, ...] | None = getattr(engine, "optional", None)
    known = {spec.name: spec for spec in (*engine.inputs, *(optional or ()))}
    _check_agreement(config, inputs, known)
    _check_agreement(config, outputs, {spec.name: spec for spec in engine.outputs})
    largest = max_batch_of(engine)
    if largest and config.max_batch_size > largest:
        raise InvalidArgument(
            f"got max_batch_size {config.max_batch_size} for model '{config.name}', expected at most "
            f"{largest}, the largest batch that the model takes"
        )
    missing = {spec.name for spec in engine.inputs} - {spec.name for spec in inputs}
    if missing:
        raise InvalidArgument(
            f"model '{config.name}' has inputs {sorted(missing)}, which the configuration lacks"
        )
    if backend_of(config).name != "python":
        _check_optional(config, {spec.name for spec in optional or ()})


def _check_optional(config: ModelConfig, optional: set[str]) -> None:
    for tensor in config.input:
        if tensor.optional and tensor.name not in optional:
            raise InvalidArgument(
                f"input '{tensor.name}' of model '{config.name}' is configured as optional, but the "
                "model has no value for it: expected one, such as an initializer of an ONNX model"
            )


def _check_agreement(
    config: ModelConfig, configured: Sequence[TensorSpec], known: Mapping[str, TensorSpec]
) -> None:
    for full in configured:
        actual = known.get(full.name)
        if actual is None:
            raise InvalidArgument(
                f"unexpected tensor '{full.name}' in the configuration of model '{config.name}', "
                f"the model has {', '.join(known)}"
            )
        agrees = (
            full.datatype is actual.datatype
            and len(full.shape) == len(actual.shape)
            and all(want in {size, -1} for size, want in zip(full.shape, actual.shape, strict=True))
        )
        if not agrees:
            batching = " (with the batch dimension that max_batch_size asks for)"
            raise InvalidArgument(
                f"model '{config.name}', tensor '{full.name}': the model expects {_text(actual)}, "
                f"but the configuration says {_text(full)}{batching if config.max_batch_size else ''}"
            )


def _text(spec: TensorSpec) -> str:
    return f"{spec.datatype.value}[{','.join(map(str, spec.shape))}]"
