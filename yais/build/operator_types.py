"""Which tensors of ONNX's operators may be FP16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from yais.build.onnx_graph import subgraphs
from yais.build.onnx_package import onnx_package

__all__ = ["OperatorTypes", "operator_types"]

_HALF = "tensor(float16)"
_TYPE_ATTRIBUTES = ("to", "dtype", "output_datatype")


@dataclass(frozen=True, slots=True)
class OperatorTypes:
    """What the tensors of a node may be, of those that are FP32 in the model.

    BF16 is taken to be allowed where FP16 is: ONNX allows it for a convolution from opset 22 on, builders
    always have.

    Attributes
    ----------
    inputs, outputs
        For each, whether it may be FP16.
    attribute
        That says the type of an output, and says FP32; "" if none does.
    """

    inputs: tuple[bool, ...]
    outputs: tuple[bool, ...]
    attribute: str


def operator_types(node: Any, opsets: dict[str, int]) -> OperatorTypes | None:
    """Return what a node's tensors may be; None if its operator is not known.

    Parameters
    ----------
    opsets
        Version of the operators of each domain.
    """
    defs = onnx_package().defs
    domain = "" if node.domain == "ai.onnx" else node.domain
    if any(True for _ in subgraphs(node)):  # it hands on what its graphs are given and give
        return OperatorTypes((True,) * len(node.input), (True,) * len(node.output), "")
    if not defs.has(node.op_type, domain):
        return None
    schema = defs.get_schema(node.op_type, opsets.get(domain, 1), domain)
    formal = [_at(schema.inputs, index) for index in range(len(node.input))]
    takes = tuple(_HALF in each.types for each in formal)
    bound = {each.type_str: half for each, half in zip(formal, takes, strict=True)}
    made = [_at(schema.outputs, index) for index in range(len(node.output))]
    makes = tuple(bound.get(each.type_str, _HALF in each.types) for each in made)
    return OperatorTypes(takes, makes, _type_attribute(node, schema))


def _at(formal: Any, index: int) -> Any:
    return formal[min(index, len(formal) - 1)]  # the last may be there many times


def _type_attribute(node: Any, schema: Any) -> str:
    given = {attribute.name: attribute.i for attribute in node.attribute}
    for name in _TYPE_ATTRIBUTES:
        if name in schema.attributes:
            value = given.get(name, schema.attributes[name].default_value.i)
            return name if value == onnx_package().TensorProto.FLOAT else ""
    return ""
