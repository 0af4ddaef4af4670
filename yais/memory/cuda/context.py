"""The primary context of a GPU, and on which threads it is current."""

from __future__ import annotations

import threading
from typing import Any

from yais.errors import FailedPrecondition
from yais.memory.cuda.toolkit import CudaToolkit

__all__ = ["CudaContext"]


class CudaContext:
    """The primary context of one GPU, retained until it is closed. Thread-safe.

    It is retained here, and not by cuda.core alone, which may let go of it when the calling thread ends.

    Parameters
    ----------
    toolkit
        The packages.
    index
        Of the GPU.

    Raises
    ------
    CudaError, MemoryError
        The GPU gives none.
    """

    def __init__(self, toolkit: CudaToolkit, index: int) -> None:
        self._toolkit = toolkit
        self._index = index
        self._guards = threading.local()
        self._ordinal = toolkit.call("cuDeviceGet", index)
        self._context: Any = toolkit.call("cuDevicePrimaryCtxRetain", self._ordinal)
        self._address = int(self._context)

    def __repr__(self) -> str:
        return f"<CudaContext of GPU {self._index}{', closed' if self.closed else ''}>"

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._context is None

    def activate(self) -> None:
        """Make it current on the calling thread; see `CudaDevice.activate`."""
        context = self._context
        if context is None:
            raise FailedPrecondition(f"GPU {self._index}: got a closed device, expected an open device")
        if int(self._toolkit.call("cuCtxGetCurrent")) != self._address:
            self._toolkit.call("cuCtxSetCurrent", context)

    def enter(self) -> None:
        """Make it current on the calling thread until `leave`, and remember what was; see `activate`."""
        before = self._toolkit.call("cuCtxGetCurrent")
        self.activate()
        vars(self._guards).setdefault("before", []).append(before)

    def leave(self) -> None:
        """Make current what was before the last `enter` of this thread."""
        self._toolkit.call("cuCtxSetCurrent", self._guards.before.pop())

    def close(self) -> None:
        """Give it back. What is left in it goes with it, unless another library has it, too."""
        self._context = None
        self._toolkit.call("cuDevicePrimaryCtxRelease", self._ordinal)
