"""Networks of a builder, made from ONNX models."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yais.build.builder_log import builder_log
from yais.build.builder_package import BuilderPackage
from yais.build.plan_record import Layer, Tensor
from yais.build.shape_ranges import NetworkInput
from yais.engines.tensorrt_tensors import DATATYPES
from yais.errors import FailedPrecondition, InvalidArgument, Unimplemented

__all__ = ["Network", "parse_onnx"]

_SAID = (
    re.compile(r'&& "(.+?)"'),  # Assertion failed: something && "what is wrong"
    re.compile(r"Assertion failed: .*: ([A-Z].*)", re.DOTALL),
    re.compile(r"Error Code \d+: [\w ]+ \((.*?)\s+In \w+ at \S+\)?$", re.DOTALL),
)
"""Where the parser says what is wrong, between pieces of its own source."""

_UNSUPPORTED = "change the model so that it does without, or serve it with ONNX Runtime"

_WRONG = "the model is wrong there: export it anew"


@dataclass(frozen=True, slots=True)
class Network:
    """A parsed network, and what has to live as long as it.

    Attributes
    ----------
    builder, definition
        The `Builder` and `INetworkDefinition`.
    parser
        The `OnnxParser`, which owns the weights.
    name
        What messages call it.
    """

    builder: Any
    definition: Any
    parser: Any
    name: Path

    def shapes(self) -> tuple[NetworkInput, ...]:
        """Return names and shapes of the inputs.

        Raises
        ------
        Unimplemented
            One holds sizes for other tensors: profiles of values are not made.
        """
        inputs = [self.definition.get_input(index) for index in range(self.definition.num_inputs)]
        for each in inputs:
            if each.is_shape_tensor:
                raise Unimplemented(
                    f"{self.name}: the values of input '{each.name}' are sizes of other tensors, which yais "
                    "build has no ranges for: build with trtexec, or fix them in the model"
                )
        return tuple(NetworkInput(each.name, tuple(each.shape)) for each in inputs)

    def inputs(self) -> tuple[Tensor, ...]:
        """Return the inputs. Raises Unimplemented for types that no client can send."""
        return tuple(
            self._tensor(self.definition.get_input(index)) for index in range(self.definition.num_inputs)
        )

    def outputs(self) -> tuple[Tensor, ...]:
        """Return the outputs. Raises Unimplemented for types that no client can receive."""
        count = self.definition.num_outputs
        return tuple(self._tensor(self.definition.get_output(index)) for index in range(count))

    def layers(self) -> tuple[Layer, ...]:
        """Return the layers, as the builder gets them."""
        layers = [self.definition.get_layer(index) for index in range(self.definition.num_layers)]
        return tuple(Layer(str(each.name), str(each.type.name)) for each in layers)

    def _tensor(self, tensor: Any) -> Tensor:
        kind = tensor.dtype.name
        if kind not in DATATYPES:
            expected = ", ".join(DATATYPES)
            raise Unimplemented(f"{self.name}: '{tensor.name}' is {kind}, expected one of {expected}")
        return Tensor(str(tensor.name), DATATYPES[kind].value, tuple(tensor.shape))


def parse_onnx(package: BuilderPackage, file: Path, name: Path, errors: list[str]) -> Network:
    """Parse a model.

    Parameters
    ----------
    file
        Of the model; its external weights beside it.
    name
        What messages call it.
    errors
        What the builder has logged so far.

    Raises
    ------
    FailedPrecondition
        The builder wants a GPU, and there is none.
    InvalidArgument
        The model is wrong; the message names node, operator and reason.
    Unimplemented
        The builder does not have an operator, or not as the model has it.
    """
    module, log = package.module, builder_log(package.module)
    try:
        builder = module.Builder(log)
    except (TypeError, RuntimeError) as error:
        said = "; ".join(errors) or str(error)
        raise FailedPrecondition(
            f"{package.title} {package.version} cannot build here: {said}: it needs the GPU that the plan is "
            "for; TensorRT-RTX builds without one: pip install 'yais[tensorrt-rtx]'"
        ) from None
    module.init_libnvinfer_plugins(log, "")
    definition = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = module.OnnxParser(definition, log)
    if not parser.parse_from_file(str(file)):
        raise _refusal(package, name, [parser.get_error(index) for index in range(parser.num_errors)])
    return Network(builder, definition, parser, name)


def _refusal(package: BuilderPackage, name: Path, errors: list[Any]) -> InvalidArgument | Unimplemented:
    texts = [_text(error) for error in errors] or ["it does not say why"]
    unsupported = any(
        error.code().name.startswith("UNSUPPORTED") or "Plugin not found" in error.desc() for error in errors
    )
    said = f"{name}: {package.title} {package.version} does not take it: " + "; ".join(dict.fromkeys(texts))
    return Unimplemented(f"{said}: {_UNSUPPORTED}") if unsupported else InvalidArgument(f"{said}: {_WRONG}")


def _text(error: Any) -> str:
    """Return what is wrong, and where, in one line."""
    lines = [line.strip() for line in error.desc().splitlines() if "[checkMacros" not in line]
    reason = " ".join(line for line in lines if not line.startswith("Invalid Node"))
    reason = next((found[1] for said in _SAID if (found := said.search(reason))), reason).strip().rstrip(".")
    if reason in {"", "false"}:
        reason = "the operator is not supported"
    if not error.node_operator():
        return reason
    named = f" '{error.node_name()}'" if error.node_name() else ""
    return f"node {error.node()}{named} ({error.node_operator()}): {reason}"
