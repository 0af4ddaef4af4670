"""Model directories: where in a repository a model keeps what.

<repository>/<model>/config.pbtxt        optional
<repository>/<model>/<label file>        optional, named by the configuration
<repository>/<model>/<version>/model.onnx    or model.py, model.plan ..., or as the configuration says
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from yais.errors import InvalidArgument, NotFound

__all__ = ["ModelDirectory", "check_name", "check_not_empty", "find_model", "find_models"]

_LONGEST_NAME = 255
"""NAME_MAX of Linux, bytes."""

_VERSION = re.compile(r"[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """One model's directory."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.path.name

    @property
    def config(self) -> Path:
        """Its configuration file, which need not exist."""
        return self.path / "config.pbtxt"

    def versions(self) -> list[int]:
        """Return the versions, ascending. Names that are no positive numbers are no versions."""
        return sorted(
            int(entry.name)
            for entry in self.path.iterdir()
            if _VERSION.fullmatch(entry.name) and entry.is_dir()
        )

    def latest_version(self) -> int:
        """Return the highest version. Raises NotFound when there is none."""
        versions = self.versions()
        if not versions:
            raise NotFound(
                f"at least one version must be available under the version policy of model '{self.name}': "
                f"{self.path} has no directory named by a positive number"
            )
        return versions[-1]

    def file(self, version: int, name: str) -> Path:
        """Return a file of a version, or a directory, for backends whose models are some.

        Raises
        ------
        InvalidArgument
            The name leads out of the directory.
        NotFound
            There is no such file.
        """
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InvalidArgument(f"model file '{name}' of model '{self.name}' lies outside its directory")
        path = self.path / str(version) / name
        if not (path.is_file() or path.is_dir()):
            raise NotFound(f"failed to load model '{self.name}': {path} does not exist")
        return path

    def labels(self, name: str) -> list[str]:
        """Return the lines of a label file.

        Raises
        ------
        InvalidArgument
            It cannot be read, or lies outside the directory.
        """
        path = (self.path / name).resolve()
        if not path.is_relative_to(self.path.resolve()):
            raise InvalidArgument(f"label file '{name}' of model '{self.name}' lies outside its directory")
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"cannot read label file '{name}' of '{self.name}': {error}") from None
        return lines[:-1] if not lines[-1] else lines


def find_models(roots: Iterable[Path]) -> dict[str, tuple[Path, ...]]:
    """Return the model directories of repositories by name: one of each repository that has the name.

    Raises
    ------
    NotFound
        A repository is no directory.
    """
    found: dict[str, tuple[Path, ...]] = {}
    for root in roots:
        if not root.is_dir():
            raise NotFound(f"model repository {root} is not a directory")
        for path in sorted(root.iterdir()):
            if _is_model_name(path.name) and path.is_dir():
                found[path.name] = (*found.get(path.name, ()), path)
    return found


def find_model(roots: Iterable[Path], name: str) -> tuple[Path, ...]:
    """Return the directories of one name.

    Raises
    ------
    NotFound
        There is none.
    InvalidArgument
        The name is none that a directory can have.
    """
    check_name(name)
    found = tuple(root / name for root in roots if (root / name).is_dir())
    if not (found and _is_model_name(name)):
        raise NotFound(f"no repository has a directory '{name}'")
    return found


def check_name(name: str) -> None:
    """Raise InvalidArgument for what can be no directory in a repository."""
    check_not_empty(name)
    if name in {".", ".."} or any(character in name for character in "/\\\0"):
        raise InvalidArgument("model name must not contain path traversal characters")
    if (size := len(name.encode(errors="surrogateescape"))) > _LONGEST_NAME:
        raise InvalidArgument(
            f"got a model name of {size} bytes, expected {_LONGEST_NAME} at most, as for any directory"
        )


def check_not_empty(name: str) -> None:
    """Raise InvalidArgument for an empty name of a model."""
    if not name.strip():
        raise InvalidArgument("Model name cannot be empty. Please enter a valid name to deploy.")


def _is_model_name(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # clients can only be told of what is UTF-8
        return False
    return not name.startswith((".", "__"))
