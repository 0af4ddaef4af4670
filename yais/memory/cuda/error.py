"""The errors of CUDA, as those of yais."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from yais.errors import Internal

__all__ = ["CudaError", "failure", "translated"]

_OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"
_NAME = re.compile(r"CUDA_ERROR_[A-Z0-9_]+")

# After these every later call of the process on that GPU fails (CUDA driver API, "CUresult").
_STICKY = frozenset(
    f"CUDA_ERROR_{name}"
    for name in (
        "ILLEGAL_ADDRESS",
        "LAUNCH_TIMEOUT",
        "ASSERT",
        "HARDWARE_STACK_ERROR",
        "ILLEGAL_INSTRUCTION",
        "MISALIGNED_ADDRESS",
        "INVALID_ADDRESS_SPACE",
        "INVALID_PC",
        "LAUNCH_FAILED",
        "TENSOR_MEMORY_LEAK",
        "ECC_UNCORRECTABLE",
        "EXTERNAL_DEVICE",
        "CONTAINED",
    )
)


class CudaError(Internal):
    """Unexpected: a call of CUDA failed.

    Attributes
    ----------
    name
        CUDA's, such as "CUDA_ERROR_INVALID_VALUE".
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name

    @property
    def sticky(self) -> bool:
        """Whether nothing works on that GPU any more until the process is started again."""
        return self.name in _STICKY


def failure(call: str, name: str, meaning: str) -> Exception:
    """Return the error of a call: MemoryError where memory is missing, else `CudaError`.

    Parameters
    ----------
    call
        What was called.
    name, meaning
        The error, as CUDA names and explains it.
    """
    if name == _OUT_OF_MEMORY:
        return MemoryError(f"{call}: {name}: {meaning}")
    error = CudaError(f"{call}: {name}: {meaning}", name)
    if error.sticky:
        error = CudaError(f"{error}; start the process again: nothing works on this GPU before that", name)
    return error


@contextlib.contextmanager
def translated(call: str) -> Iterator[None]:
    """Turn what cuda.core raises for an error of CUDA into what `failure` returns. Other errors pass."""
    try:
        yield
    except Exception as error:
        found = _NAME.search(str(error))
        if found is None or isinstance(error, CudaError):
            raise
        meaning = str(error)[found.end() :].lstrip(": ")
        raise failure(call, found[0], meaning or "no more is known") from error
