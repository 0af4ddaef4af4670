"""TorchScript: what torch.jit.save writes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yais.core.tensor import TensorSpec
from yais.engines.kinds import EngineSettings
from yais.engines.torch_program import index_in
from yais.engines.torch_tensors import dtype_of, torch_module
from yais.errors import Internal, InvalidArgument

__all__ = ["ScriptTorch"]


class ScriptTorch:
    """A TorchScript module; see `TorchProgram`. It has no types and shapes, so these are as configured.

    An input is called as its argument of `forward` is, or INPUT__0 and so on, by its place. Where `forward`
    takes a dict or a list of tensors, it is its key or its place there. Outputs are called as the keys of the
    dict that `forward` returns; else by their places, as OUTPUT__0, or in the order of the configuration.
    """

    def __init__(self, path: Path, settings: EngineSettings, device: str) -> None:
        if not settings.inputs or not settings.outputs:
            raise InvalidArgument(
                f"got no inputs or no outputs for {path.name}, expected both: TorchScript does not say their "
                "types and shapes (an ExportedProgram does: torch.export.save)"
            )
        torch = torch_module()
        for spec in (*settings.inputs, *settings.outputs):
            dtype_of(spec.datatype)
        self.inputs, self.outputs = settings.inputs, settings.outputs
        self.most = tuple(tuple(None if size < 0 else size for size in spec.shape) for spec in self.inputs)
        self.writes_inputs = True  # nothing says that it does not
        self._optimized = settings.parameters.get("DISABLE_OPTIMIZED_EXECUTION", "").lower() != "true"
        self._module: Any = torch.jit.load(str(path), map_location=device).eval()
        self.state = (*self._module.parameters(), *self._module.buffers())
        self._read_arguments(self._module.forward.schema.arguments[1:])  # the first is the module
        self._indices = _indices(self.outputs)

    def run(self, tensors: Sequence[Any]) -> list[Any]:
        """Run the module; see `TorchProgram`."""
        torch = torch_module()
        with contextlib.nullcontext() if self._optimized else torch.jit.optimized_execution(False):
            return self._named(self._call(tensors))

    def _call(self, tensors: Sequence[Any]) -> Any:
        named = dict(zip(self._names, tensors, strict=True))
        if self._form == "dict":
            return self._module(named)
        if self._form == "list":
            return self._module([named[name] for name in sorted(named, key=int)])
        return self._module(**named)

    def _named(self, result: Any) -> list[Any]:
        torch = torch_module()
        if isinstance(result, torch.Tensor):
            result = [result]
        if isinstance(result, dict):
            missing = [spec.name for spec in self.outputs if spec.name not in result]
            if missing:
                raise Internal(f"the model gave outputs {list(result)}, expected {missing}, too")
            return [result[spec.name] for spec in self.outputs]
        if not isinstance(result, list | tuple) or max(self._indices) >= len(result):
            what = f"{len(result)} outputs" if isinstance(result, list | tuple) else type(result).__name__
            raise Internal(f"the model gave {what}, expected {max(self._indices) + 1} outputs or more")
        return [result[index] for index in self._indices]

    def _read_arguments(self, arguments: Sequence[Any]) -> None:
        types = [str(argument.type) for argument in arguments]
        self._form = {"Dict(str, Tensor)": "dict", "Dict[str, Tensor]": "dict", "List[Tensor]": "list"}.get(
            types[0] if len(types) == 1 else "", "arguments"
        )
        if self._form == "dict":
            self._names = [spec.name for spec in self.inputs]
            return
        if self._form == "list":
            places = _indices(self.inputs)
            if sorted(places) != list(range(len(places))):
                raise InvalidArgument(f"got inputs of places {places}, expected them to count from 0")
            self._names = [str(place) for place in places]
            return
        known = [argument.name for argument in arguments]
        self._names = [_argument(spec, known) for spec in self.inputs]
        needed = {argument.name for argument in arguments if not argument.has_default_value()}
        if not needed <= set(self._names) or len(set(self._names)) < len(self._names):
            raise InvalidArgument(
                f"got inputs for the arguments {self._names} of the module's forward, expected each once of "
                f"{known}, of which {sorted(needed)} are needed"
            )


def _argument(spec: TensorSpec, known: Sequence[str]) -> str:
    if spec.name in known:
        return spec.name
    place = index_in(spec.name)
    if place is None or place >= len(known):
        raise InvalidArgument(
            f"got input '{spec.name}', expected an argument of the module's forward, which are "
            f"{', '.join(known)}, or INPUT__0 to INPUT__{len(known) - 1}"
        )
    return known[place]


def _indices(specs: Sequence[TensorSpec]) -> list[int]:
    """Return the places of tensors: what their names say, if each does, or else their order."""
    places = [index_in(spec.name) for spec in specs]
    said = [place for place in places if place is not None]
    return said if len(said) == len(places) else list(range(len(places)))
