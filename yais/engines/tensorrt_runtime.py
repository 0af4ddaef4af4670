"""The TensorRT of this process: which package it is, and what its calls raise."""

from __future__ import annotations

import functools
import importlib
import mmap
from collections.abc import Callable, Sequence
from typing import Any

from yais.engines.tensorrt_log import complaints, tensorrt_logger
from yais.engines.tensorrt_plan import TITLES, Flavour, PlanHeader
from yais.errors import FailedPrecondition, Internal, InvalidArgument

__all__ = ["TensorRTRuntime", "tensorrt_runtime"]

# Modules and the extra that brings them. The lean runtime reads what was built version-compatible.
_MODULES: dict[Flavour, tuple[str, ...]] = {
    "tensorrt": ("tensorrt", "tensorrt_lean"),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
_EXTRAS: dict[Flavour, str] = {"tensorrt": "yais[tensorrt]", "tensorrt_rtx": "yais[tensorrt-rtx]"}


class TensorRTRuntime:
    """A TensorRT that can be imported. Thread-safe.

    Parameters
    ----------
    trt
        Its module: `tensorrt` 10 or 11, `tensorrt_lean`, `tensorrt_rtx` or `tensorrt_rtx_bindings`.

    Attributes
    ----------
    trt
        The module.
    version
        Its version.
    flavour
        Whose plans it reads.
    """

    def __init__(self, trt: Any) -> None:
        self.trt = trt
        self.version = tuple(int(part) for part in trt.__version__.split(".")[:4] if part.isdigit())
        self.flavour: Flavour = "tensorrt_rtx" if trt.__name__.startswith("tensorrt_rtx") else "tensorrt"
        self._logger = tensorrt_logger(trt)

    def __repr__(self) -> str:
        return f"<TensorRTRuntime: {self}>"

    def __str__(self) -> str:
        return f"{self.trt.__name__} {self.trt.__version__}"

    def load(self, plan: bytes | mmap.mmap, header: PlanHeader, allocator: Any = None) -> tuple[Any, Any]:
        """Return a new runtime of TensorRT's, and the engine it makes of a plan, to be freed in reverse.

        Parameters
        ----------
        plan
            Of which nothing is kept.
        header
            Of the plan.
        allocator
            An `IGpuAllocator`, if not TensorRT's own.

        Raises
        ------
        FailedPrecondition
            The plan is for another TensorRT. The message says which built it, and how to rebuild it.
        InvalidArgument
            TensorRT cannot load it; the message has its reasons.
        MemoryError
            There is too little device memory.
        """
        if header.flavour != self.flavour or header.version[:2] > self.version[:2]:
            raise FailedPrecondition(self._mismatch(header))

        def deserialize() -> tuple[Any, Any]:
            native = self.trt.Runtime(self._logger)
            if allocator is not None:
                native.gpu_allocator = allocator
            return native, native.deserialize_cuda_engine(plan)

        made, lines = _attempt(deserialize, ())
        if made is not None and made[1] is not None:
            return made  # type: ignore[no-any-return]
        reason = "; ".join(lines) or "it says no reason"
        if "outofmemory" in reason.lower().replace(" ", ""):
            raise MemoryError(f"{self} has too little device memory for the plan: {reason}")
        if header.version[:2] != self.version[:2]:
            raise FailedPrecondition(f"{self._mismatch(header)}. It says: {reason}")
        raise InvalidArgument(f"{self} cannot load the plan: {reason}")

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of TensorRT's; return what it returns.

        Raises
        ------
        Internal
            It raised, or returned False or None although it should not; the message has TensorRT's reasons.
        """
        result, lines = _attempt(function, arguments)
        if result is None or result is False:
            raise _failure(function, lines)
        return result

    def do(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function of TensorRT's that returns nothing.

        Raises
        ------
        Internal
            It raised, or logged an error; the message has TensorRT's reasons.
        """
        _, lines = _attempt(function, arguments)
        if lines:
            raise _failure(function, lines)

    def _mismatch(self, header: PlanHeader) -> str:
        return (
            f"the plan was built by {header}, and here is {self}: plans run where they were built; "
            f"rebuild it where this version is with 'yais build MODEL.onnx --output DIR', "
            f"or install {header}: pip install '{_EXTRAS[header.flavour]}'"
        )


def _attempt(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, list[str]]:
    """Return what a function returns, None if it raises, and the errors that it logs or raises."""
    with complaints() as lines:
        try:
            return function(*arguments), lines
        except Exception as error:  # RuntimeError mostly
            lines.append(str(error))
            return None, lines


def _failure(function: Callable[..., Any], lines: Sequence[str]) -> Internal:
    name = getattr(function, "__name__", "call")
    return Internal(f"TensorRT's {name} failed: {'; '.join(lines) or 'it says no reason'}")


def tensorrt_runtime(flavour: Flavour) -> TensorRTRuntime:
    """Return the process's TensorRT of a family: the first module of it that can be imported. Thread-safe.

    Raises
    ------
    FailedPrecondition
        There is none; the message says what to install.
    """
    return _found(flavour)


@functools.cache
def _found(flavour: Flavour) -> TensorRTRuntime:
    reasons = []
    for name in _MODULES[flavour]:
        try:
            return TensorRTRuntime(importlib.import_module(name))
        except (ImportError, OSError) as error:  # the bindings are there without the libraries, as well
            reasons.append(f"{name}: {error}")
    raise FailedPrecondition(
        f"a plan for {TITLES[flavour]} needs it: pip install '{_EXTRAS[flavour]}' ({'; '.join(reasons)})"
    )
