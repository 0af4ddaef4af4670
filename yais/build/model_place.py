"""Plans in a model repository: there as a whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from yais.build.plan import BuiltPlan
from yais.build.plan_config import check_config, config_text
from yais.build.plan_record import RECORD
from yais.build.replaced_file import replace_file
from yais.engines.tensorrt_kind import KIND
from yais.errors import AlreadyExists, FailedPrecondition, InvalidArgument

__all__ = ["PLAN", "ModelPlace", "model_name"]

PLAN = KIND.filename
"""Name of a plan's file in the directory of a version."""

_CONFIG = "config.pbtxt"


def model_name(path: Path) -> str:
    """Return what a model is called after its file: "resnet" for resnet.onnx and for resnet/1/model.onnx."""
    folders = path.resolve().parents
    if path.stem == "model" and len(folders) > 1 and folders[0].name.isdecimal():
        return folders[1].name
    return path.stem


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """Where a plan is to be written.

    Attributes
    ----------
    repository
        The directory that holds the models; made if it is not there.
    name
        Of the model.
    version
        Of the model.
    replace
        Whether to replace a version that is there, and a configuration that does not fit.
    """

    repository: Path
    name: str
    version: int = 1
    replace: bool = False

    @property
    def directory(self) -> Path:
        """Of the model."""
        return self.repository / self.name

    def check(self) -> None:
        """Check that the plan can be written there: before it is built, which takes long.

        Raises
        ------
        InvalidArgument
            The name or the version is none.
        AlreadyExists
            The version is there, and not to be replaced.
        FailedPrecondition
            Something that is no directory is in the way.
        """
        if not self.name or self.name.startswith((".", "__")) or set(self.name) & set("/\\\0"):
            raise InvalidArgument(f"got the model name '{self.name}', expected one that a directory can have")
        if self.version < 1:
            raise InvalidArgument(f"got the version {self.version}, expected a positive number")
        for folder in (self.repository, self.directory):
            if os.path.lexists(folder) and not folder.is_dir():
                raise FailedPrecondition(f"{folder} is there and no directory")
        target = self.directory / str(self.version)
        if os.path.lexists(target) and not self.replace:
            raise AlreadyExists(
                f"{target} is there already: build another version (--model-version), or replace it (--force)"
            )

    def write(self, plan: BuiltPlan) -> Path:
        """Write a plan, its record, and its configuration unless one that fits is there.

        Returns
        -------
        Path
            Of the plan.

        Raises
        ------
        InvalidArgument, AlreadyExists, FailedPrecondition
            See `check`; or the configuration that is there does not fit the plan.
        OSError
            It cannot be written; then everything is as it was.
        """
        self.check()
        self.repository.mkdir(parents=True, exist_ok=True)
        config = config_text(self.name, plan.record)
        if not self.directory.exists():
            with _staged(self.repository, self.name) as folder:
                _write(folder / str(self.version), plan)
                (folder / _CONFIG).write_text(config, encoding="utf-8")
                folder.rename(self.directory)
        else:
            fits = self._config_fits(plan)
            with _staged(self.directory, str(self.version)) as folder:
                _write(folder, plan)
                self._put(folder)
            if not fits:
                replace_file(self.directory / _CONFIG, config.encode())
        return self.directory / str(self.version) / PLAN

    def _config_fits(self, plan: BuiltPlan) -> bool:
        if not (self.directory / _CONFIG).exists():
            return False
        try:
            check_config(self.directory / _CONFIG, self.name, plan.record)
        except (InvalidArgument, FailedPrecondition):
            if not self.replace:
                raise
            return False
        return True

    def _put(self, folder: Path) -> None:
        target = self.directory / str(self.version)
        if not os.path.lexists(target):
            folder.rename(target)
            return
        with _staged(self.directory, f"{self.version}.old") as old:
            target.rename(old / "version")
            try:
                folder.rename(target)
            except BaseException:
                (old / "version").rename(target)
                raise


@contextmanager
def _staged(parent: Path, name: str) -> Iterator[Path]:
    """Make a directory that no server looks at, and delete what is left of it."""
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=parent))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(folder: Path, plan: BuiltPlan) -> None:
    folder.mkdir(exist_ok=True)
    (folder / PLAN).write_bytes(plan.contents)
    (folder / RECORD).write_text(plan.record.to_json(), encoding="utf-8")
