"""Model files of PyTorch, loaded, as functions of tensors."""

from __future__ import annotations

import dataclasses
import re
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from yais.core.tensor import TensorSpec
from yais.engines.kinds import EngineSettings
from yais.errors import InvalidArgument, YaisError

__all__ = ["TorchProgram", "index_in", "load_program", "renamed"]

_loading = threading.Lock()  # PyTorch loads one program at a time; another fails

_INDEXED = re.compile(r".*__([0-9]{1,4})")


class TorchProgram(Protocol):
    """A loaded model.

    Attributes
    ----------
    inputs, outputs
        In the order of `run`; -1 for a dimension of any size.
    most
        For each input, the largest size of each dimension; None where nothing bounds it.
    writes_inputs
        Whether a run may write to the tensors that it is given.
    state
        Tensors of the model itself: parameters, buffers and constants.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    most: tuple[tuple[int | None, ...], ...]
    writes_inputs: bool
    state: tuple[Any, ...]

    def run(self, tensors: Sequence[Any]) -> list[Any]:
        """Return one tensor, or whatever the model gave instead, for each output.

        Raises
        ------
        InvalidArgument
            The model takes no inputs of these shapes.
        Exception
            Whatever the model raises.
        """


def load_program(path: Path, settings: EngineSettings, device: str) -> TorchProgram:
    """Load an ExportedProgram or TorchScript, whichever the file is, onto a device.

    Raises
    ------
    InvalidArgument
        The file cannot be loaded, has tensors that there are no types for, or contradicts the settings.
    FailedPrecondition
        There is no PyTorch.
    """
    from yais.engines.torch_export import ExportedTorch
    from yais.engines.torch_script import ScriptTorch

    kind = ExportedTorch if _is_exported(path) else ScriptTorch
    try:
        with _loading:
            return kind(path, settings, device)
    except (YaisError, MemoryError):
        raise
    except Exception as error:  # of a file that somebody wrote, anything
        raise InvalidArgument(f"PyTorch cannot load {path.name}: {error}") from None


def renamed(specs: Sequence[TensorSpec], configured: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the specs under their configured names, where these are Triton's, as in "INPUT__0"."""
    known = {spec.name for spec in specs}
    names = {
        index: spec.name
        for spec in configured
        if spec.name not in known and (index := index_in(spec.name)) is not None
    }
    return tuple(
        dataclasses.replace(spec, name=names.get(index, spec.name)) for index, spec in enumerate(specs)
    )


def index_in(name: str) -> int | None:
    """Return the place that a name such as "INPUT__0" says; None if it says none."""
    matched = _INDEXED.fullmatch(name)
    return int(matched[1]) if matched else None


def _is_exported(path: Path) -> bool:
    """Return whether a file is what torch.export.save writes: it says so itself, whatever it is called."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidArgument(f"PyTorch cannot load {path.name}: it is no archive: {error}") from None
    if any("/code/" in name for name in names):  # which only TorchScript has
        return False
    if any(name.endswith("/data.pkl") and name.count("/") == 1 for name in names):
        raise InvalidArgument(
            f"PyTorch cannot load {path.name}: it is what torch.save writes, expected a program of "
            "torch.export.save or torch.jit.save"
        )
    return True
