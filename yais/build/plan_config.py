"""The `config.pbtxt` of a plan."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format

from yais.build.plan_record import PlanRecord, Tensor
from yais.engines.tensorrt_kind import KIND
from yais.errors import FailedPrecondition, InvalidArgument
from yais.protocol import model_config_pb2
from yais.protocol.model_config_pb2 import ModelConfig

__all__ = ["check_config", "config_text"]


def config_text(name: str, record: PlanRecord) -> str:
    """Return the configuration to serve a plan with, ready for GPUs and for batches."""
    config = _config(name, record)
    return str(text_format.MessageToString(config))


def check_config(path: Path, name: str, record: PlanRecord) -> None:
    """Check that a configuration that is there fits a plan; what it leaves open does.

    Raises
    ------
    InvalidArgument
        It cannot be read.
    FailedPrecondition
        It is of another backend, or has other tensors or another largest batch; the message says which.
    """
    config = ModelConfig()
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), config)
    except (text_format.ParseError, OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"failed to read text proto from {path}: {error}") from None
    for what, has, needs in _differences(config, _config(name, record)):
        raise FailedPrecondition(
            f"{path} has {what} {has}, and the plan {needs}: change it, or have it replaced (--force)"
        )


def _config(name: str, record: PlanRecord) -> ModelConfig:
    batched = record.max_batch > 0
    config = ModelConfig(name=name, platform=KIND.platform, max_batch_size=record.max_batch)
    for described, tensors in ((config.input, record.inputs), (config.output, record.outputs)):
        for tensor in tensors:
            described.add(name=tensor.name, data_type=_type(tensor), dims=tensor.shape[batched:])
    if batched:
        config.dynamic_batching.SetInParent()
    group = config.instance_group.add(kind=model_config_pb2.ModelInstanceGroup.KIND_GPU)
    if len(record.profiles) > 1:
        group.profile.extend(str(number) for number in range(len(record.profiles)))
    return config


def _type(tensor: Tensor) -> int:
    return model_config_pb2.DataType.Value(f"TYPE_{tensor.datatype}")


def _differences(there: ModelConfig, wanted: ModelConfig) -> list[tuple[str, str, str]]:
    backends = (there.backend or KIND.name, there.platform or KIND.platform)
    found = [("backend", "'" + "', '".join(backends) + "'", f"'{KIND.name}'")] * (
        backends != (KIND.name, KIND.platform)
    )
    if there.input or there.output or there.max_batch_size:
        sizes = (there.max_batch_size, wanted.max_batch_size)
        found += [("max_batch_size", str(sizes[0]), str(sizes[1]))] * (sizes[0] != sizes[1])
    for what in ("input", "output"):
        has, needs = (
            sorted((each.name, each.data_type, tuple(each.dims)) for each in getattr(config, what))
            for config in (there, wanted)
        )
        if has and has != needs:
            found.append((f"{what}s", _text(has), _text(needs)))
    return found


def _text(tensors: list[tuple[str, int, tuple[int, ...]]]) -> str:
    return ", ".join(
        f"{name}: {model_config_pb2.DataType.Name(kind)}{list(dims)}" for name, kind, dims in tensors
    )
