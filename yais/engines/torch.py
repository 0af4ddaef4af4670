"""PyTorch."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from yais.engines.engine import Array
from yais.engines.kinds import EngineSettings
from yais.engines.selection import reordered
from yais.engines.torch_program import TorchProgram, load_program
from yais.engines.torch_tensors import array_of, checked_tensor, tensor_of, torch_module
from yais.errors import FailedPrecondition, Internal, InvalidArgument, YaisError

__all__ = ["TorchEngine"]

_log = logging.getLogger("yais.engines")

_MAX_THREADS = 1024


class TorchEngine:
    """One PyTorch model: an ExportedProgram (torch.export.save) or TorchScript (torch.jit.save), on the CPU.

    Threads may execute at once; what state a model changes while it runs, they share.

    Parameters
    ----------
    path
        Of the file. Only from somebody you trust: PyTorch unpickles parts of such files, and they are code.
    settings
        `inputs` and `outputs` are needed for TorchScript; see `ScriptTorch`. The `parameters` are Triton's;
        numbers of threads are the process's.
    device
        PyTorch's name of the device that the model is on.

    Attributes
    ----------
    max_batch
        The smallest bound of the inputs' first dimensions; 0 where nothing bounds them.
    smallest, largest
        Bounds of inputs, by name, where all dimensions have some.

    Raises
    ------
    InvalidArgument
        The file cannot be loaded, has tensors that there are no types for, or a setting is wrong.
    FailedPrecondition
        There is no PyTorch, or threads can be set no more.
    """

    def __init__(self, path: Path, settings: EngineSettings, *, device: str = "cpu") -> None:
        if settings.profiles or settings.graphs:
            raise InvalidArgument("got optimization profiles or CUDA graphs, expected none for PyTorch")
        torch = torch_module()
        _set_threads(torch, settings)
        self._mode = torch.inference_mode if _flag(settings, "INFERENCE_MODE", True) else torch.no_grad
        _flag(settings, "DISABLE_OPTIMIZED_EXECUTION", False)
        self._device = device
        self._program: TorchProgram | None = load_program(path, settings, device)
        self._takes, self._gives = self._program.inputs, self._program.outputs
        self.inputs, self.outputs = self._takes, self._gives
        bounds = [most[0] for most in self._program.most if most]
        self.max_batch = min((bound for bound in bounds if bound is not None), default=0)
        self.largest = {
            spec.name: tuple(size or 0 for size in most)
            for spec, most in zip(self.inputs, self._program.most, strict=True)
            if None not in most
        }
        self.smallest = {
            spec.name: tuple(1 if size < 0 else size for size in spec.shape)
            for spec in self.inputs
            if spec.name in self.largest
        }
        self._state = frozenset(_storage(tensor) for tensor in self._program.state)

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, specs)) for specs in (self.inputs, self.outputs))
        return f"<{type(self).__name__} on {self._device}: {inputs} -> {outputs}>"

    def select(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Fix the order of inputs and outputs; see `Engine`. Raises InvalidArgument."""
        self.inputs, self.outputs = reordered(self._takes, self._gives, inputs, outputs)

    def execute(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run the model; see `Engine`.

        Raises
        ------
        InvalidArgument
            The model was not exported for inputs of these shapes.
        MemoryError
            There is too little memory.
        Internal
            The model raises; the message is its own. Or it gives something else than it declares.
        FailedPrecondition
            The engine is closed.
        """
        program = self._running()
        with self._errors(), self._mode():
            tensors = [
                tensor_of(array, spec.datatype) for array, spec in zip(inputs, self.inputs, strict=True)
            ]
            shared = set(self._state)
            if self._device != "cpu":
                tensors = [tensor.to(self._device) for tensor in tensors]
            elif program.writes_inputs:
                tensors = [tensor.clone() for tensor in tensors]
            else:
                shared.update(map(_storage, tensors))
            results = [tensor.cpu() for tensor in self._run(program, tensors)]
            return [
                array_of(tensor.clone() if _storage(tensor) in shared else tensor, spec.datatype)
                for tensor, spec in zip(results, self.outputs, strict=True)
            ]

    def close(self) -> None:
        """Free the model. Idempotent."""
        if self._program is not None:
            self._program = None
            gc.collect()  # PyTorch's modules hold themselves, and large memory

    def _running(self) -> TorchProgram:
        program = self._program
        if program is None:
            raise FailedPrecondition("the engine is closed")
        return program

    def _run(self, program: TorchProgram, tensors: Sequence[Any]) -> list[Any]:
        """Return the outputs as checked tensors, in the order that was selected."""
        named = {spec.name: tensor for spec, tensor in zip(self.inputs, tensors, strict=True)}
        results = program.run([named[spec.name] for spec in self._takes])
        given = {spec.name: result for spec, result in zip(self._gives, results, strict=True)}
        return [checked_tensor(given[spec.name], spec).to(self._device) for spec in self.outputs]

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Make errors of yais of those that the model raises."""
        try:
            yield
        except (YaisError, MemoryError):
            raise
        except Exception as error:
            if isinstance(error, torch_module().OutOfMemoryError):
                raise MemoryError(str(error)) from None
            raise Internal(_text(error)) from error


def _text(error: Exception) -> str:
    """Return what an error says; of those of TorchScript, which begin with where it was, the last line."""
    text = str(error).strip()
    if "Traceback of TorchScript" in text:
        return text.splitlines()[-1]
    return f"{type(error).__name__}: {text}"


def _storage(tensor: Any) -> int:
    return int(tensor.untyped_storage().data_ptr())


def _set_threads(torch: Any, settings: EngineSettings) -> None:
    """Set the numbers of threads that the settings say, for the whole process."""
    for key, get, put in (
        ("INTRA_OP_THREAD_COUNT", torch.get_num_threads, torch.set_num_threads),
        ("INTER_OP_THREAD_COUNT", torch.get_num_interop_threads, torch.set_num_interop_threads),
    ):
        text = settings.parameters.get(key)
        if text is None:
            continue
        if not text.isdecimal() or len(text) > 10 or not 1 <= int(text) <= _MAX_THREADS:
            raise InvalidArgument(f"got '{text}' for parameter '{key}', expected 1 to {_MAX_THREADS}")
        if get() == int(text):
            continue
        _log.warning("model '%s' sets %s of the process from %d to %s", settings.name, key, get(), text)
        try:
            put(int(text))
        except RuntimeError as error:
            raise FailedPrecondition(f"cannot set {key} to {text} any more: {error}") from None


def _flag(settings: EngineSettings, key: str, default: bool) -> bool:
    text = settings.parameters.get(key, str(default)).lower()
    if text not in {"true", "false"}:
        raise InvalidArgument(f"got '{text}' for parameter '{key}', expected 'true' or 'false'")
    return text == "true"
