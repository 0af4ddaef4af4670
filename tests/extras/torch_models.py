"""PyTorch models to test with, as files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim
from torch.utils import _pytree

from yais.core.tensor import DataType, TensorSpec

NAMES = {
    DataType.BOOL: torch.bool,
    DataType.UINT8: torch.uint8,
    DataType.UINT16: torch.uint16,
    DataType.UINT32: torch.uint32,
    DataType.UINT64: torch.uint64,
    DataType.INT8: torch.int8,
    DataType.INT16: torch.int16,
    DataType.INT32: torch.int32,
    DataType.INT64: torch.int64,
    DataType.FP16: torch.float16,
    DataType.FP32: torch.float32,
    DataType.FP64: torch.float64,
    DataType.BF16: torch.bfloat16,
}


class Affine(torch.nn.Module):
    """Gives 2 * x + b."""

    def __init__(self) -> None:
        super().__init__()
        self.b = torch.nn.Parameter(torch.tensor([0.0, 1.0, 2.0]))

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x + self.b


class Several(torch.nn.Module):
    """Gives a dict, nested; takes a keyword."""

    def forward(self, x: Tensor, *, more: dict[str, Tensor]) -> dict[str, Any]:
        return {"total": x + more["q"], "pair": (x - more["q"], (x > 0).sum(-1)), "same": x}


class Pair(torch.nn.Module):
    """Gives a tuple: sum and difference."""

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return a + b, a - b


class ByName(torch.nn.Module):
    """Takes and gives dicts."""

    def forward(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"y": tensors["x"] * 2, "z": tensors["w"] + 1}


class Listed(torch.nn.Module):
    """Takes a list."""

    def forward(self, tensors: list[Tensor]) -> list[Tensor]:
        return [tensors[0] + tensors[1], tensors[0]]


class InPlace(torch.nn.Module):
    """Writes to what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x.add_(1)


class Constant(torch.nn.Module):
    """Gives what it has itself."""

    def __init__(self) -> None:
        super().__init__()
        self.c = torch.nn.Parameter(torch.ones(2, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2, self.c


class Picky(torch.nn.Module):
    """Fails for negative numbers."""

    def forward(self, x: Tensor) -> Tensor:
        if bool((x < 0).any()):
            raise ValueError("negative numbers are not for me")
        return x.sqrt()


class Wrong(torch.nn.Module):
    """Gives another type than any that would be configured."""

    def forward(self, x: Tensor) -> Tensor:
        return x.double()


def identity(kind: torch.dtype) -> torch.nn.Module:
    """Return a module that gives what it takes."""

    class Same(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.clone()

    return Same()


def export(
    path: Path,
    module: torch.nn.Module,
    arguments: Sequence[Tensor],
    keywords: Mapping[str, Any] | None = None,
    *,
    most: int | None = None,
    dynamic: bool = True,
) -> Path:
    """Write an ExportedProgram whose first dimension is the batch, of up to `most`."""
    batch = Dim("batch", min=1, max=most) if most else Dim.DYNAMIC
    tree = _pytree.tree_map(lambda _: {0: batch}, (tuple(arguments), dict(keywords or {})))
    shapes = (*tree[0], *tree[1].values()) if dynamic else None
    program = torch.export.export(
        module.eval(), tuple(arguments), dict(keywords or {}), dynamic_shapes=shapes
    )
    torch.export.save(program, str(path))
    return path


def script(path: Path, module: torch.nn.Module) -> Path:
    """Write TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module.eval()).save(str(path))
    return path


def spec(name: str, *shape: int, kind: DataType = DataType.FP32) -> TensorSpec:
    """Return a tensor's spec, of FP32 unless said otherwise."""
    return TensorSpec(name, kind, shape)
