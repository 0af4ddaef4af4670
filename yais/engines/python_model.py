"""Python files as models: a file `model.py` that defines a class `Model`, or a coroutine `pipeline`."""

from __future__ import annotations

import inspect
import itertools
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from yais.core.tensor import TensorSpec
from yais.engines.auto_complete import AutoCompleteConfig
from yais.engines.engine import Array
from yais.engines.python import PythonEngine
from yais.engines.python_pipeline import PythonPipeline
from yais.errors import InvalidArgument

__all__ = ["PythonFile", "PythonModel", "PythonModelConfig", "load_python_model"]

_numbers = itertools.count()  # for names of modules


@dataclass(frozen=True, slots=True)
class PythonModelConfig:
    """What a model is told of itself.

    Attributes
    ----------
    name, version
        Of the model.
    path
        Its file; what else it needs may lie beside it.
    inputs, outputs
        Its tensors, with a batch dimension of -1 if it has one.
    max_batch
        Items in a batch at most; 0 for a model without a batch dimension.
    parameters
        From its configuration.
    """

    name: str
    version: str
    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch: int = 0
    parameters: Mapping[str, str] = field(default_factory=dict)


class PythonModel(Protocol):
    """What the class `Model` of a file has. It is made without arguments; no base class is needed.

    Besides `execute` it may have `initialize(self, config: PythonModelConfig)`, called once before the first
    request; `finalize(self)`, called once after the last; and a static method
    `auto_complete_config(config: AutoCompleteConfig)`, which fills its configuration in and returns it.
    """

    def execute(self, inputs: dict[str, Array]) -> Any:
        """Answer a batch of requests; also a coroutine or a generator. See `PythonEngine`."""


class PythonFile:
    """A file that has been run, in a module of its own.

    What it makes forgets the module when it is closed; without that, `close` does. What is raised in the
    file is raised as InvalidArgument, with the line.

    Parameters
    ----------
    path
        Of the file.

    Raises
    ------
    InvalidArgument
        It cannot be run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Under a name of its own while it is loaded: dataclasses and pickle look their modules up.
        self._module = types.ModuleType(f"yais_python_model_{next(_numbers)}")
        self._module.__file__ = str(path)
        sys.modules[self._module.__name__] = self._module
        try:
            _at(path, self._run)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<PythonFile {self._path}: {'a pipeline' if self.is_pipeline else 'a model'}>"

    @property
    def is_pipeline(self) -> bool:
        """Whether it has a coroutine, or asynchronous generator, `pipeline` and no class `Model`."""
        return not hasattr(self._module, "Model") and hasattr(self._module, "pipeline")

    def auto_complete(self, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the configuration as the model fills it in; None if it does not.

        Parameters
        ----------
        config
            As a dict; see `AutoCompleteConfig`.

        Raises
        ------
        InvalidArgument
            The model raised, or returned something else.
        """
        complete = getattr(getattr(self._module, "Model", self._module), "auto_complete_config", None)
        if complete is None:
            return None
        completed = _at(self._path, lambda: complete(AutoCompleteConfig(config)))
        if not isinstance(completed, AutoCompleteConfig):
            raise InvalidArgument(
                f"auto_complete_config of {self._path} returned a {type(completed).__name__}, expected the "
                "configuration that it was given"
            )
        return completed.as_dict()

    def engine(self, config: PythonModelConfig) -> PythonEngine | PythonPipeline:
        """Make the model, or take the pipeline. Closing it finalizes it, and forgets the module.

        Raises
        ------
        InvalidArgument
            There is no class `Model` with a method `execute` and no `async def pipeline`; or it cannot be
            made and initialized.
        """
        if self.is_pipeline:
            pipeline = self._module.pipeline
            if not (inspect.iscoroutinefunction(pipeline) or inspect.isasyncgenfunction(pipeline)):
                raise InvalidArgument(f"{self._path} has a 'pipeline' that is no 'async def'")
            _at(self._path, lambda: _initialize(self._module, config))
            return PythonPipeline(pipeline, config.inputs, config.outputs, lambda: self._end(self._module))
        kind = getattr(self._module, "Model", None)
        if not isinstance(kind, type) or not callable(getattr(kind, "execute", None)):
            raise InvalidArgument(f"{self._path} has no class 'Model' with a method 'execute'")
        model = _at(self._path, lambda: _initialize(kind(), config))
        return PythonEngine(
            model.execute, inputs=config.inputs, outputs=config.outputs, on_close=lambda: self._end(model)
        )

    def close(self) -> None:
        """Forget the module. Idempotent."""
        sys.modules.pop(self._module.__name__, None)

    def _run(self) -> None:
        # Compiled here, so that no bytecode is written into the repository, and none from there is stale.
        code = compile(self._path.read_bytes(), str(self._path), "exec", dont_inherit=True)
        exec(code, self._module.__dict__)

    def _end(self, model: Any) -> None:
        try:
            if hasattr(model, "finalize"):
                model.finalize()
        finally:
            self.close()


def load_python_model(config: PythonModelConfig) -> PythonEngine | PythonPipeline:
    """Load a model's file into a fresh module, initialize its model, and return it as an engine.

    Closing the engine finalizes the model and forgets the module.

    Raises
    ------
    InvalidArgument
        The file cannot be run, or makes no model; see `PythonFile`. The message says in which line.
    """
    file = PythonFile(config.path)
    try:
        return file.engine(config)
    except BaseException:
        file.close()
        raise


def _initialize(model: Any, config: PythonModelConfig) -> Any:
    if hasattr(model, "initialize"):
        model.initialize(config)
    return model


def _at(path: Path, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (Exception, SystemExit) as error:  # a file that exits does not end the server
        if isinstance(error, SyntaxError) and error.filename == str(path):
            line: int | None = error.lineno
        else:
            frames = traceback.extract_tb(error.__traceback__)
            line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(path)), None)
        if line is None and isinstance(error, InvalidArgument):
            raise
        where = f"{path}, line {line}" if line else str(path)
        what = error.msg if isinstance(error, SyntaxError) else error
        raise InvalidArgument(f"{where}: {type(error).__name__}: {what}") from error
