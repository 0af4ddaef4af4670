"""What a plan is, written beside it: plans themselves say little without a GPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yais.build.shape_ranges import Profile, ShapeRange
from yais.errors import InvalidArgument

__all__ = ["RECORD", "Layer", "PlanRecord", "Tensor"]

RECORD = "build.json"
"""Name of the file, in the directory of the plan."""

_FORM = 1


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output: name, data type as in the KServe v2 protocol, shape with -1 for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer, or an operator: its name, and its kind, such as "CONVOLUTION"."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """How a plan was built, and what it is.

    Attributes
    ----------
    builder, version
        Package and version that built it.
    source
        "file", "sha256" and "opset" of the ONNX model.
    targets
        GPUs it is for; none for the one it was built on, for TensorRT-RTX all from Ampere on.
    settings
        What the builder was told, by name.
    inputs, outputs
        Its tensors.
    max_batch
        The largest batch; 0 without a batch dimension.
    profiles
        The shapes it takes.
    layers
        Of the network, as the builder got it.
    memory
        Bytes by what they are for: "plan", the file; "weights" and "activation" in device memory, if known.
    sha256
        Of the plan.
    seconds
        That it took to build.
    """

    builder: str
    version: str
    source: Mapping[str, Any]
    targets: tuple[str, ...]
    settings: Mapping[str, Any]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    max_batch: int
    profiles: tuple[Profile, ...]
    layers: tuple[Layer, ...]
    memory: Mapping[str, int]
    sha256: str
    seconds: float

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps({"form": _FORM, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def read(cls, path: Path) -> PlanRecord:
        """Read a record.

        Raises
        ------
        InvalidArgument
            It cannot be read, or is none.
        """
        try:
            read = json.loads(path.read_text(encoding="utf-8"))
            if read.pop("form") != _FORM:
                raise ValueError("it is of another version of yais")
            if not {"file", "sha256", "opset"} <= dict(read["source"]).keys():
                raise ValueError("its source is not what yais build writes")
            return cls(
                **read
                | {
                    "settings": dict(read["settings"]),
                    "memory": {str(name): int(size) for name, size in dict(read["memory"]).items()},
                    "targets": tuple(read["targets"]),
                    "inputs": _tensors(read["inputs"]),
                    "outputs": _tensors(read["outputs"]),
                    "profiles": tuple(
                        {name: _range(each) for name, each in profile.items()} for profile in read["profiles"]
                    ),
                    "layers": tuple(
                        Layer(str(layer["name"]), str(layer["kind"])) for layer in read["layers"]
                    ),
                }
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError, InvalidArgument) as error:
            what = f"{type(error).__name__}: {error}"
            raise InvalidArgument(f"{path} is no record of a build: {what}") from None


def _tensors(read: list[dict[str, Any]]) -> tuple[Tensor, ...]:
    return tuple(Tensor(each["name"], each["datatype"], tuple(each["shape"])) for each in read)


def _range(read: dict[str, Any]) -> ShapeRange:
    return ShapeRange(tuple(read["least"]), tuple(read["best"]), tuple(read["most"]))
