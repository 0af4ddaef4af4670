"""Model configurations: `config.pbtxt` read, checked, and filled in from the model itself.

A configuration is kept as Triton's own message, since clients ask for it. What Triton accepts and yais
does not do yet is refused by name; nothing is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import Message

from yais.core.tensor import TensorSpec
from yais.engines.engine import Engine
from yais.errors import InvalidArgument
from yais.inference.layout import Signature
from yais.inference.model import ModelOptions
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.protocol import model_config_pb2
from yais.protocol.model_config_pb2 import ModelConfig
from yais.repository.backends import BACKENDS, backend_of
from yais.repository.tensors import DATATYPES, TYPES, spec_of

__all__ = ["DEFAULT_MAX_BATCH_SIZE", "complete", "options", "read_config", "signature"]

DEFAULT_MAX_BATCH_SIZE = 4
"""Given to a model that can batch and has no configuration; Triton's number."""

# What a configuration may say. Fields are named as one writes them, without the places in lists.
_SUPPORTED = frozenset(
    (
        "name",
        "platform",
        "backend",
        "max_batch_size",
        "default_model_filename",
        "version_policy",
        "version_policy.latest",
        "version_policy.latest.num_versions",
        "input",
        "input.name",
        "input.data_type",
        "input.format",
        "input.dims",
        "output",
        "output.name",
        "output.data_type",
        "output.dims",
        "output.label_filename",
        "instance_group",
        "instance_group.name",
        "instance_group.count",
        "instance_group.kind",
        "dynamic_batching",
        "dynamic_batching.preferred_batch_size",
        "dynamic_batching.max_queue_delay_microseconds",
        "optimization",
        "optimization.graph",
        "optimization.graph.level",
        "model_transaction_policy",
        "model_transaction_policy.decoupled",
        "parameters",
        "parameters.string_value",
    )
)


def read_config(path: Path, name: str) -> ModelConfig:
    """Read a configuration; an absent file gives an empty one.

    Parameters
    ----------
    path
        Of the config.pbtxt.
    name
        Of the model's directory.

    Raises
    ------
    InvalidArgument
        It cannot be read, says something impossible, or something yais does not support.
    """
    config = ModelConfig()
    if path.exists():
        try:
            text_format.Parse(path.read_text(encoding="utf-8"), config)
        except (text_format.ParseError, OSError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"failed to read text proto from {path}: {error}") from None
    if config.name and config.name != name:
        raise InvalidArgument(
            f"unexpected directory name '{name}' for model '{config.name}', "
            "directory name must equal model name"
        )
    config.name = name
    _check(config)
    return config


def complete(config: ModelConfig, engine: Engine) -> None:
    """Fill in what the model itself says, and the defaults; check that the two agree.

    Raises
    ------
    InvalidArgument
        The configuration contradicts the model.
    """
    if not config.input and not config.output and not config.max_batch_size:
        _complete_max_batch(config, engine)
    _complete_tensors(config, config.input, engine.inputs)
    _complete_tensors(config, config.output, engine.outputs)
    missing = {spec.name for spec in engine.inputs} - {tensor.name for tensor in config.input}
    if missing:
        raise InvalidArgument(
            f"model '{config.name}' has inputs {sorted(missing)}, which the configuration lacks"
        )
    _complete_decoupled(config, engine)
    backend = backend_of(config)
    config.platform, config.backend = backend.platform, backend.name
    config.default_model_filename = config.default_model_filename or backend.filename
    config.version_policy.latest.num_versions = 1
    if config.HasField("dynamic_batching") and not config.dynamic_batching.preferred_batch_size:
        config.dynamic_batching.preferred_batch_size.append(config.max_batch_size)
    if not config.instance_group:
        config.instance_group.add()
    for group in config.instance_group:
        group.name = group.name or config.name
        group.count = group.count or backend.instances
        group.kind = model_config_pb2.ModelInstanceGroup.KIND_CPU


def signature(config: ModelConfig) -> Signature:
    """Return what a completed configuration says of inputs and outputs."""
    return Signature(
        name=config.name,
        inputs=tuple(spec_of(tensor) for tensor in config.input),
        outputs=tuple(spec_of(tensor) for tensor in config.output),
        max_batch=config.max_batch_size,
    )


def options(config: ModelConfig) -> ModelOptions:
    """Return what a completed configuration says of scheduling."""
    batching = None
    if config.HasField("dynamic_batching"):
        batching = BatchingPolicy(
            max_batch=config.max_batch_size,
            preferred=tuple(config.dynamic_batching.preferred_batch_size),
            max_delay=config.dynamic_batching.max_queue_delay_microseconds * 1000,
        )
    return ModelOptions(batching, instances=sum(group.count for group in config.instance_group))


def _check(config: ModelConfig) -> None:
    name = config.name
    for field in _fields(config):
        if field not in _SUPPORTED:
            raise InvalidArgument(f"model '{name}' is configured with '{field}', which yais does not support")
    _check_backend(config)
    if config.version_policy.latest.num_versions > 1:
        raise InvalidArgument(f"model '{name}' asks for several versions, expected version_policy latest 1")
    if config.max_batch_size < 0:
        raise InvalidArgument(
            f"'max_batch_size' must be non-negative value in model configuration for '{name}'"
        )
    for group in config.instance_group:
        if group.kind not in {group.KIND_AUTO, group.KIND_CPU}:
            kind = model_config_pb2.ModelInstanceGroup.Kind.Name(group.kind)
            raise InvalidArgument(
                f"got instance_group kind {kind} for '{name}', expected KIND_CPU or KIND_AUTO"
            )
        if group.count < 0:
            raise InvalidArgument(f"got instance_group count {group.count} for '{name}', expected 1 or more")
    if config.HasField("dynamic_batching"):
        _check_batching(config)
    for tensors in (config.input, config.output):
        names = [tensor.name for tensor in tensors]
        for tensor in tensors:
            _check_tensor(name, tensor)
            if names.count(tensor.name) > 1:
                raise InvalidArgument(f"model '{name}', tensor '{tensor.name}' is configured more than once")


def _check_backend(config: ModelConfig) -> None:
    for field, value in (("backend", config.backend), ("platform", config.platform)):
        if value and not any(value in {backend.name, backend.platform} for backend in BACKENDS):
            expected = " or ".join(f"'{backend.name}'" for backend in BACKENDS)
            raise InvalidArgument(f"got {field} '{value}' for model '{config.name}', expected {expected}")
    backend = backend_of(config)
    if config.platform and config.platform not in {backend.name, backend.platform}:
        raise InvalidArgument(
            f"got platform '{config.platform}' for model '{config.name}', which has backend "
            f"'{config.backend}', expected '{backend.platform}'"
        )


def _check_batching(config: ModelConfig) -> None:
    name = config.name
    if config.max_batch_size < 1:
        raise InvalidArgument(
            f"dynamic batching needs a batch dimension: got max_batch_size {config.max_batch_size} for "
            f"'{name}', expected at least 1"
        )
    for size in config.dynamic_batching.preferred_batch_size:
        if size <= 0:
            raise InvalidArgument(f"dynamic batching preferred size must be positive for '{name}'")
        if size > config.max_batch_size:
            raise InvalidArgument(f"dynamic batching preferred size must be <= max batch size for '{name}'")


def _check_tensor(model: str, tensor: Any) -> None:
    if not tensor.name:
        raise InvalidArgument(f"model input and output names must not be empty for '{model}'")
    if tensor.data_type not in DATATYPES:
        raise InvalidArgument(f"model '{model}', tensor '{tensor.name}' must specify 'data_type'")
    for size in tensor.dims:
        if size < 1 and size != -1:
            raise InvalidArgument(
                f"model '{model}', tensor '{tensor.name}' dimension must be integer >= 1, or -1 to indicate "
                f"a variable-size dimension, got {size}"
            )


def _fields(message: Message, prefix: str = "") -> Iterator[str]:
    """Name every field that is set, in the message and those within it."""
    for descriptor, value in message.ListFields():
        name = prefix + descriptor.name
        yield name
        if descriptor.message_type is None:
            continue
        if descriptor.message_type.GetOptions().map_entry:
            children = list(value.values())
        else:
            children = [value] if isinstance(value, Message) else list(value)
        for child in children:
            if isinstance(child, Message):
                yield from _fields(child, f"{name}.")


def _complete_max_batch(config: ModelConfig, engine: Engine) -> None:
    tensors = (*engine.inputs, *engine.outputs)
    if all(spec.shape and spec.shape[0] == -1 for spec in tensors):
        config.max_batch_size = DEFAULT_MAX_BATCH_SIZE
        config.dynamic_batching.SetInParent()


def _complete_decoupled(config: ModelConfig, engine: Engine) -> None:
    decoupled = getattr(engine, "decoupled", False)
    if config.HasField("model_transaction_policy"):
        configured = config.model_transaction_policy.decoupled
        if configured is not decoupled:
            raise InvalidArgument(
                f"got model_transaction_policy.decoupled {configured} for model '{config.name}', expected "
                f"{decoupled}: only a model whose 'execute' is a generator is decoupled"
            )
    elif decoupled:
        config.model_transaction_policy.decoupled = True


def _complete_tensors(config: ModelConfig, tensors: Any, specs: tuple[TensorSpec, ...]) -> None:
    known = {spec.name: spec for spec in specs}
    if not tensors:
        for spec in specs:
            dims = spec.shape[1:] if config.max_batch_size else spec.shape
            tensors.add(name=spec.name, data_type=TYPES[spec.datatype], dims=dims)
    for tensor in tensors:
        if tensor.name not in known:
            raise InvalidArgument(
                f"unexpected tensor '{tensor.name}' in the configuration of model '{config.name}', "
                f"the model has {', '.join(known)}"
            )
        _check_agreement(config, spec_of(tensor), known[tensor.name])


def _check_agreement(config: ModelConfig, configured: TensorSpec, actual: TensorSpec) -> None:
    batch = (-1,) if config.max_batch_size else ()
    full = TensorSpec(configured.name, configured.datatype, (*batch, *configured.shape))
    agrees = (
        full.datatype is actual.datatype
        and len(full.shape) == len(actual.shape)
        and all(want in {size, -1} for size, want in zip(full.shape, actual.shape, strict=True))
    )
    if not agrees:
        remark = " (with the batch dimension that max_batch_size asks for)" if batch else ""
        raise InvalidArgument(
            f"model '{config.name}', tensor '{full.name}': the model expects {_text(actual)}, "
            f"but the configuration says {_text(full)}{remark}"
        )


def _text(spec: TensorSpec) -> str:
    return f"{spec.datatype.value}[{','.join(map(str, spec.shape))}]"
