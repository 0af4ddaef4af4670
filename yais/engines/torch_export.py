"""ExportedProgram: what torch.export.save writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from yais.core.tensor import TensorSpec
from yais.engines.kinds import EngineSettings
from yais.engines.torch_program import renamed
from yais.engines.torch_tensors import datatype_of, torch_module
from yais.errors import InvalidArgument

__all__ = ["ExportedTorch"]

_REFUSALS = ("Guard failed", "Expected input")
"""How PyTorch's errors begin where an input has a shape that the program was not exported for."""


class ExportedTorch:
    """An ExportedProgram; see `TorchProgram`. Names, types and shapes of the tensors are its own.

    Inputs are called as the arguments of the module's `forward`. An output in a dict has the name of its key,
    any other is OUTPUT__0 and so on; what lies deeper has the names of all levels, with dots between.
    """

    def __init__(self, path: Path, settings: EngineSettings, device: str) -> None:
        torch = torch_module()
        program: Any = torch.export.load(str(path))
        self.state = (*program.state_dict.values(), *_tensors(program.constants.values()))
        if device != "cpu" or any(tensor.device.type != "cpu" for tensor in self.state):
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
            self.state = (*program.state_dict.values(), *_tensors(program.constants.values()))
        self._values = {node.name: node.meta.get("val") for node in program.graph.nodes}
        self._ranges = program.range_constraints
        self._read_inputs(program, settings)
        self._read_outputs(program, settings)
        # In some versions only the operators show it, in others only the signature.
        self.writes_inputs = bool(program.graph_signature.user_inputs_to_mutate) or any(
            getattr(getattr(node.target, "_schema", None), "is_mutable", False)
            for node in program.graph.nodes
        )
        self._module: Any = program.module()

    def run(self, tensors: Sequence[Any]) -> list[Any]:
        """Run the program; see `TorchProgram`."""
        from torch.utils._pytree import tree_leaves, tree_unflatten

        leaves = list(self._leaves)
        for place, tensor in zip(self._places, tensors, strict=True):
            leaves[place] = tensor
        arguments, named = tree_unflatten(leaves, self._takes)
        try:
            results = tree_leaves(self._module(*arguments, **named))
        except (AssertionError, RuntimeError) as error:
            if str(error).startswith(_REFUSALS):
                raise InvalidArgument(f"the model was not exported for these shapes: {error}") from None
            raise
        return [results[place] for place in self._results]

    def _read_inputs(self, program: Any, settings: EngineSettings) -> None:
        self._takes = program.call_spec.in_spec
        given = [each.arg for each in program.graph_signature.input_specs if each.kind.name == "USER_INPUT"]
        self._leaves = [getattr(argument, "value", None) for argument in given]  # constants stay as they are
        self._places = [place for place, argument in enumerate(given) if self._is_tensor(argument)]
        names = [given[place].name for place in self._places]
        self.inputs = renamed([self._spec(name, name) for name in names], settings.inputs)
        self.most = tuple(tuple(map(self._most, self._values[name].shape)) for name in names)

    def _read_outputs(self, program: Any, settings: EngineSettings) -> None:
        from torch.utils._pytree import tree_flatten_with_path, tree_unflatten

        specs = program.graph_signature.output_specs
        gives = program.call_spec.out_spec
        given = [each.arg for each in specs if each.kind.name in {"USER_OUTPUT", "LOSS_OUTPUT"}]
        paths, _ = tree_flatten_with_path(tree_unflatten(list(range(gives.num_leaves)), gives))
        self._results = [place for place, argument in enumerate(given) if self._is_tensor(argument)]
        named = [self._spec(_name(paths[place][0]), given[place].name) for place in self._results]
        self.outputs = renamed(named, settings.outputs)

    def _is_tensor(self, argument: Any) -> bool:
        if getattr(self._values.get(argument.name), "shape", None) is not None:
            return True
        if hasattr(argument, "value"):  # a constant: nothing that a request could say
            return False
        raise InvalidArgument(f"'{argument.name}' of the exported program is {argument}, expected a tensor")

    def _spec(self, name: str, node: str) -> TensorSpec:
        value = self._values[node]
        shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
        return TensorSpec(name, datatype_of(value.dtype, name), shape)

    def _most(self, size: Any) -> int | None:
        if isinstance(size, int):
            return size
        known = self._ranges.get(size.node.expr)
        return int(known.upper) if known is not None and known.upper.is_Integer else None


def _tensors(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, torch_module().Tensor)]


def _name(path: Sequence[Any]) -> str:
    """Return the name of an output from where it lies in what `forward` returns."""
    steps = [getattr(step, "key", getattr(step, "name", getattr(step, "idx", None))) for step in path]
    if not steps:
        return "OUTPUT__0"
    if len(steps) == 1 and isinstance(steps[0], int):
        return f"OUTPUT__{steps[0]}"
    return ".".join(map(str, steps))
