"""Python files as models: a file `model.py` that defines a class `Model`."""

from __future__ import annotations

import itertools
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from yais.core.tensor import TensorSpec
from yais.engines.engine import Array
from yais.engines.python import PythonEngine
from yais.errors import InvalidArgument

__all__ = ["PythonModel", "PythonModelConfig", "load_python_model"]

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
    request, and `finalize(self)`, called once after the last.
    """

    def execute(self, inputs: dict[str, Array]) -> Any:
        """Answer a batch of requests; also a coroutine or a generator. See `PythonEngine`."""


def load_python_model(config: PythonModelConfig) -> PythonEngine:
    """Load a model's file into a fresh module, initialize its model, and return it as an engine.

    Closing the engine finalizes the model and forgets the module.

    Raises
    ------
    InvalidArgument
        The file cannot be run, has no class `Model` with a method `execute`, or that cannot be made and
        initialized. The message says in which line.
    """
    # Under a name of its own while it is loaded: dataclasses and pickle look their modules up.
    module = types.ModuleType(f"yais_python_model_{next(_numbers)}")
    module.__file__ = str(config.path)
    sys.modules[module.__name__] = module
    try:
        model = _at(config.path, lambda: _made(module, config))
    except BaseException:
        del sys.modules[module.__name__]
        raise

    def finalize() -> None:
        try:
            if hasattr(model, "finalize"):
                model.finalize()
        finally:
            del sys.modules[module.__name__]

    return PythonEngine(model.execute, inputs=config.inputs, outputs=config.outputs, on_close=finalize)


def _made(module: types.ModuleType, config: PythonModelConfig) -> Any:
    # Compiled here, so that no bytecode is written into the repository, and none from there is stale.
    exec(compile(config.path.read_bytes(), str(config.path), "exec", dont_inherit=True), module.__dict__)
    kind = getattr(module, "Model", None)
    if not isinstance(kind, type) or not callable(getattr(kind, "execute", None)):
        raise InvalidArgument(f"{config.path} has no class 'Model' with a method 'execute'")
    model = kind()
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
