"""The packages of CUDA, and how their functions are called."""

from __future__ import annotations

import functools
from typing import Any

from yais.errors import FailedPrecondition
from yais.memory.cuda.error import failure

__all__ = ["CudaToolkit", "cuda_toolkit", "why_no_cuda"]

_EXTRA = "pip install 'yais[cuda]'"


class CudaToolkit:
    """The two packages that everything of CUDA goes through, or fakes of them. Thread-safe.

    Attributes
    ----------
    core
        The module `cuda.core`.
    driver
        The module `cuda.bindings.driver`. Its functions release the interpreter's lock while they run.
    """

    def __init__(self, core: Any, driver: Any) -> None:
        self.core = core
        self.driver = driver

    def __repr__(self) -> str:
        return f"<CudaToolkit: {self.core.__name__}, {self.driver.__name__}>"

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of the driver and return what it returns behind its status.

        Returns
        -------
        Any
            None, the one value, or the tuple of values.

        Raises
        ------
        MemoryError
            The status says that there is no more memory.
        CudaError
            Any other status but success.
        """
        status, *values = getattr(self.driver, function)(*arguments)
        if int(status):
            raise self.failure(function, status)
        return (values[0] if len(values) == 1 else tuple(values)) if values else None

    def failure(self, function: str, status: Any) -> Exception:
        """Return the error that a status of the driver stands for; see `yais.memory.cuda.error.failure`."""
        unknown, text = self.driver.cuGetErrorString(status)
        meaning = "an error that the driver does not know" if int(unknown) else text.decode()
        return failure(function, getattr(status, "name", f"CUDA_ERROR_{int(status)}"), meaning)


@functools.cache
def _loaded() -> CudaToolkit:
    try:
        from cuda import core
        from cuda.bindings import driver
    except ImportError as error:
        raise FailedPrecondition(f"CUDA is not installed ({error}): {_EXTRA}") from error
    toolkit = CudaToolkit(core, driver)
    try:
        toolkit.call("cuInit", 0)
        count = toolkit.call("cuDeviceGetCount")
    except Exception as error:  # the package's own for a missing library, else one of CUDA's
        raise FailedPrecondition(f"there is no NVIDIA driver that works: {error}") from error
    if not count:
        raise FailedPrecondition("there is no GPU, or none that this process may use (CUDA_VISIBLE_DEVICES)")
    return toolkit


def cuda_toolkit() -> CudaToolkit:
    """Return the packages, imported at the first call. Thread-safe.

    Raises
    ------
    FailedPrecondition
        They are not installed, or there is no driver or no GPU; the message says which.
    """
    return _loaded()


def why_no_cuda() -> str:
    """Return why CUDA cannot be used in this process, "" where it can. Thread-safe."""
    try:
        cuda_toolkit()
    except FailedPrecondition as error:
        return str(error)
    return ""
