"""What a configuration may not say, whatever the model is. The texts are Triton's where it has one."""

from __future__ import annotations

from typing import Any

from yais.errors import InvalidArgument
from yais.inference.reshape import check_reshape
from yais.protocol.model_config_pb2 import ModelConfig, ModelInput, ModelInstanceGroup
from yais.repository.fields import check_fields
from yais.repository.instances import least_instances
from yais.repository.limits import MAX_BYTES, MAX_INSTANCES, MAX_WORKERS, byte_size
from yais.repository.names import repeated
from yais.repository.platforms import PLATFORMS, backend_name, check_backend, is_ensemble
from yais.repository.scheduling_validation import check_scheduling
from yais.repository.tensors import DATATYPES

__all__ = ["check", "check_engine_fields"]


def check(config: ModelConfig) -> None:
    """Check a configuration, completed or not.

    Raises
    ------
    InvalidArgument
        It says something impossible, or something yais does not support.
    FailedPrecondition
        Its backend is that of an installed package which cannot be used.
    """
    check_fields(config)
    check_backend(config)
    check_engine_fields(config)
    name = config.name
    if config.max_batch_size < 0:
        raise InvalidArgument(
            f"'max_batch_size' must be non-negative value in model configuration for '{name}'"
        )
    _check_versions(config)
    _check_groups(config)
    for tensors in (config.input, config.output):
        for tensor in tensors:
            _check_tensor(config, tensor)
        twice = repeated(tensor.name for tensor in tensors)
        if twice is not None:
            raise InvalidArgument(f"model '{name}', tensor '{twice}' is configured more than once")
    _check_item(config)
    check_scheduling(config)


def check_engine_fields(config: ModelConfig, *, detected: bool = False) -> None:
    """Refuse what neither ONNX Runtime nor Python models take; engines of other kinds are told of it.

    Parameters
    ----------
    detected
        Whether the files have been looked at: before, what names no backend may be of any.

    Raises
    ------
    InvalidArgument
        The model has such a field.
    """
    unknown = not (config.backend or config.platform or config.default_model_filename or detected)
    if not is_ensemble(config) and (unknown or backend_name(config) not in PLATFORMS):
        return
    said = {"optimization.cuda": config.optimization.HasField("cuda")}
    said["instance_group.profile"] = any(group.profile for group in config.instance_group)
    for field, is_said in said.items():
        if is_said:
            raise InvalidArgument(
                f"model '{config.name}' is configured with '{field}', which a model of backend "
                f"'{backend_name(config)}' does not have"
            )


def _check_versions(config: ModelConfig) -> None:
    policy = config.version_policy
    if policy.WhichOneof("policy_choice") != "specific":
        return
    if not policy.specific.versions:
        raise InvalidArgument(f"version_policy specific of '{config.name}' names no version")
    for version in policy.specific.versions:
        if version < 1:
            raise InvalidArgument(
                f"got version {version} in version_policy of '{config.name}', expected 1 or more"
            )


def _check_groups(config: ModelConfig) -> None:
    for index, group in enumerate(config.instance_group):
        which = f"instance group {group.name or f'{config.name}_{index}'} of model {config.name}"
        if group.count < 0:
            raise InvalidArgument(
                f"got instance_group count {group.count} for '{config.name}', expected 1 or more"
            )
        if group.gpus and group.kind in {group.KIND_CPU, group.KIND_MODEL}:
            kind = ModelInstanceGroup.Kind.Name(group.kind)
            raise InvalidArgument(f"{which} has kind {kind} but specifies one or more GPUs")
        if len(set(group.gpus)) < len(group.gpus) or any(gpu < 0 for gpu in group.gpus):
            raise InvalidArgument(f"{which} got gpus {list(group.gpus)}, expected different numbers from 0")
        _check_resources(which, group)
    _check_instances(config)


def _check_resources(which: str, group: ModelInstanceGroup) -> None:
    names = [resource.name for resource in group.rate_limiter.resources]
    if "" in names:
        raise InvalidArgument(f"{which} has a rate_limiter resource without a name")
    twice = repeated(names)
    if twice is not None:
        raise InvalidArgument(f"{which} has the rate_limiter resource '{twice}' more than once")


def _check_instances(config: ModelConfig) -> None:
    instances = least_instances(config)
    in_workers = (
        "worker_process" in config.parameters
        and config.parameters["worker_process"].string_value.lower() == "true"
    )
    most = MAX_WORKERS if in_workers else MAX_INSTANCES
    if instances > most:
        raise InvalidArgument(
            f"got {instances} instances{' in processes' if in_workers else ''} of '{config.name}' by "
            f"'instance_group', expected at most {most}"
        )


def _check_item(config: ModelConfig) -> None:
    """Check the inputs of one item: zeros of these shapes may be what the model is warmed up with."""
    size = sum(byte_size(DATATYPES[tensor.data_type], tensor.dims) for tensor in config.input)
    if size > MAX_BYTES:
        raise InvalidArgument(
            f"model '{config.name}' is configured with inputs of {size} bytes an item, expected at most "
            f"{MAX_BYTES}, or dimensions of any size"
        )


def _check_tensor(config: ModelConfig, tensor: Any) -> None:
    model = config.name
    if not tensor.name:
        raise InvalidArgument(f"model input and output names must not be empty for '{model}'")
    which = f"model '{model}', tensor '{tensor.name}'"
    if tensor.data_type not in DATATYPES:
        raise InvalidArgument(f"{which} must specify 'data_type'")
    for size in tensor.dims:
        if size < 1 and size != -1:
            raise InvalidArgument(
                f"{which} dimension must be integer >= 1, or -1 to indicate "
                f"a variable-size dimension, got {size}"
            )
    if tensor.HasField("reshape"):
        wrong = check_reshape(tensor.dims, tensor.reshape.shape)
        if wrong:
            raise InvalidArgument(
                f"{which} {wrong}: got dims {list(tensor.dims)} and reshape {list(tensor.reshape.shape)}"
            )
    if isinstance(tensor, ModelInput) and tensor.format != ModelInput.FORMAT_NONE and len(tensor.dims) != 3:
        raise InvalidArgument(
            f"{which}: model input NHWC/NCHW require 3 dims for {model}, got {len(tensor.dims)}"
        )
