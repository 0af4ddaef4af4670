"""Where a model is loaded from: its directory, or files that a client has sent."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from yais.errors import InvalidArgument
from yais.repository.directory import ModelDirectory
from yais.repository.snapshot import Snapshot, snapshot

__all__ = ["Source", "UploadedFiles"]


class UploadedFiles:
    """A private directory for a client's files. It goes with the last reference, at the latest.

    Attributes
    ----------
    path
        The directory.
    remove
        Removes it. Idempotent.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="yais-model-"))
        self.remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Source:
    """What a model is loaded from. Equal ones give the same model.

    Attributes
    ----------
    paths
        Directories of the model's name: one in each repository that has it.
    snapshot
        Of these.
    config
        A configuration as JSON that is to be taken instead of the file.
    uploaded
        What was made for a client's files.
    """

    paths: tuple[Path, ...]
    snapshot: Snapshot
    config: str | None = None
    uploaded: UploadedFiles | None = field(default=None, compare=False)

    @classmethod
    def of(cls, paths: tuple[Path, ...], config: str | None = None) -> Source:
        """Return what the directories say now."""
        return cls(paths, snapshot(paths), config)

    @classmethod
    def upload(cls, name: str, config: str | None, files: Mapping[str, bytes]) -> Source:
        """Write a client's files into a private directory.

        Parameters
        ----------
        files
            By their paths in the model's directory.

        Raises
        ------
        InvalidArgument
            There is no configuration, or a path leads out of the directory or cannot be written.
        """
        if config is None:  # says that what lies in the repository does not count
            raise InvalidArgument("got files without the parameter 'config', expected both")
        uploaded = UploadedFiles()
        root = uploaded.path / name
        try:
            root.mkdir()
            for file, content in files.items():
                _write(root, file, content)
        except BaseException:
            uploaded.remove()
            raise
        return cls((root,), snapshot([root]), config, uploaded)

    @property
    def directory(self) -> ModelDirectory:
        """The model's directory. Raises InvalidArgument if there are several."""
        if len(self.paths) > 1:
            where = " and in ".join(str(path.parent) for path in self.paths)
            raise InvalidArgument(f"model '{self.paths[0].name}' is in {where}")
        return ModelDirectory(self.paths[0])

    def discard(self) -> None:
        """Remove what was made for it. Idempotent."""
        if self.uploaded is not None:
            self.uploaded.remove()


def _write(root: Path, file: str, content: bytes) -> None:
    relative = PurePosixPath(file)
    if not relative.parts or relative.is_absolute() or ".." in relative.parts or "\0" in file:
        raise InvalidArgument(f"got file '{file}', expected a path within the model's directory")
    path = root / relative
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise InvalidArgument(f"cannot write file '{file}': {error.strerror}") from None
