"""The tensors of a plan, and why some of them cannot be served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from yais.core.tensor import DataType
from yais.errors import InvalidArgument

__all__ = ["DATATYPES", "PlanTensor", "check_engine", "plan_tensors"]

DATATYPES = {
    "FLOAT": DataType.FP32,
    "HALF": DataType.FP16,
    "BF16": DataType.BF16,
    "INT8": DataType.INT8,
    "INT32": DataType.INT32,
    "INT64": DataType.INT64,
    "BOOL": DataType.BOOL,
    "UINT8": DataType.UINT8,
    "FP8": DataType.UINT8,
    "E8M0": DataType.UINT8,
}
"""By the names of TensorRT's DataType. Those without a data type of the protocol travel as their bits."""


@dataclass(frozen=True, slots=True)
class PlanTensor:
    """An input or output of a plan.

    Attributes
    ----------
    name
        Of the tensor.
    datatype
        Of its elements; UINT8 for the bits of FP8 and E8M0.
    shape
        -1 for a dimension of more than one size.
    is_input
        Whether the plan takes it.
    on_host
        Whether TensorRT reads or writes it in host memory: what shapes are computed from, or are.
    """

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    is_input: bool
    on_host: bool


def check_engine(trt: Any, engine: Any) -> None:
    """Refuse an engine that cannot be run here. Raises InvalidArgument."""
    if engine.engine_capability == trt.EngineCapability.DLA_STANDALONE:
        raise InvalidArgument("the plan is a loadable for a DLA alone, expected one for a GPU")
    if engine.engine_capability == trt.EngineCapability.SAFETY:
        raise InvalidArgument("the plan is for the safety runtime, expected one for the standard one")
    # Asked of another plan, TensorRT logs an error.
    stripped = engine.get_engine_stat(trt.EngineStat.STRIPPED_WEIGHTS_SIZE) if engine.refittable else 0
    if stripped > 0:
        raise InvalidArgument(
            f"the plan lacks {stripped} bytes of weights, which were stripped when it was built: expected "
            "one with its weights"
        )


def plan_tensors(trt: Any, engine: Any) -> tuple[PlanTensor, ...]:
    """Return the tensors of an engine in its own order.

    Raises
    ------
    InvalidArgument
        One cannot be served; the message says which and why.
    """
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return tuple([_tensor(trt, engine, name) for name in names])


def _tensor(trt: Any, engine: Any, name: str) -> PlanTensor:
    kind = engine.get_tensor_dtype(name).name
    datatype = DATATYPES.get(kind)
    if datatype is None:
        raise InvalidArgument(
            f"tensor '{name}' of the plan is of {kind}, of which two share a byte: expected one of "
            f"{', '.join(DATATYPES)}; dequantise it within the network"
        )
    is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
    tensor = PlanTensor(
        name,
        datatype,
        tuple(engine.get_tensor_shape(name)),
        is_input,
        engine.get_tensor_location(name) == trt.TensorLocation.HOST,
    )
    for profile in range(engine.num_optimization_profiles if not tensor.on_host else 0):
        _check_format(engine, name, profile)
    alias = None if is_input else engine.get_aliased_input_tensor(name)
    if alias:
        raise InvalidArgument(
            f"output '{name}' of the plan shares the memory of input '{alias}', which is not supported: "
            "every request has its own inputs"
        )
    return tensor


def _check_format(engine: Any, name: str, profile: int) -> None:
    # Not by TensorFormat, which the lean runtime lacks.
    described = engine.get_tensor_format_desc(name, profile)
    if (described and "linear" not in described.lower()) or engine.get_tensor_vectorized_dim(
        name, profile
    ) != -1:
        raise InvalidArgument(
            f"tensor '{name}' of the plan has the format '{described}', expected a row major linear one: set "
            "its allowed formats when building"
        )
