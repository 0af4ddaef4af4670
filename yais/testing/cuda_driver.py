"""The fake of cuda.bindings.driver, as far as `yais.memory.cuda` uses it."""

# ruff: noqa: N802 - the names are those of CUDA

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yais.testing import cuda_types as types
from yais.testing.cuda_calls import FakeContext, FakeState, fake
from yais.testing.cuda_memory import MemoryFunctions
from yais.testing.cuda_streams import StreamFunctions
from yais.testing.cuda_types import CUcontext, CUdevice, CUresult, Refusal

__all__ = ["FakeDriver"]


class FakeDriver(MemoryFunctions, StreamFunctions):
    """The module: functions that return tuples, which begin with a status. Thread-safe.

    Parameters
    ----------
    state
        Of the process it belongs to.
    copy_seconds
        How long a copy of so many bytes takes.
    """

    __name__ = "fake cuda.bindings.driver"

    CUresult = types.CUresult
    CUevent_flags = types.CUevent_flags
    CUipcMemHandle = types.CUipcMemHandle
    CUipcMem_flags = types.CUipcMem_flags
    CUmemAccessDesc = types.CUmemAccessDesc
    CUmemAccess_flags = types.CUmemAccess_flags
    CUmemAttach_flags = types.CUmemAttach_flags
    CUmemLocationType = types.CUmemLocationType
    CUstreamCaptureMode = types.CUstreamCaptureMode
    CU_MEMHOSTREGISTER_PORTABLE = 1

    def __init__(self, state: FakeState, copy_seconds: Callable[[int], float]) -> None:
        self.state = state
        self.copy_seconds = copy_seconds

    @fake(1)
    def cuGetErrorString(self, error: Any) -> tuple[bytes]:
        """Return what a status means."""
        words = CUresult(error).name.removeprefix("CUDA_ERROR_").replace("_", " ").lower()
        return (words.encode(),)

    @fake(1)
    def cuDeviceGetCount(self) -> tuple[int]:
        """Return how many GPUs there are."""
        return (len(self.state.contexts),)

    @fake(1)
    def cuDeviceGet(self, ordinal: int) -> tuple[CUdevice]:
        """Return a GPU."""
        if not 0 <= ordinal < len(self.state.contexts):
            raise Refusal(CUresult.CUDA_ERROR_INVALID_DEVICE)
        return (CUdevice(ordinal),)

    @fake(1)
    def cuDevicePrimaryCtxRetain(self, dev: Any) -> tuple[CUcontext]:
        """Return the primary context of a GPU, which stays until it is released as often."""
        context = self.state.contexts[int(dev)]
        with self.state.lock:
            context.retained += 1
        return (context.handle,)

    @fake()
    def cuDevicePrimaryCtxRelease(self, dev: Any) -> None:
        """Undo that."""
        context: FakeContext = self.state.contexts[int(dev)]
        with self.state.lock:
            if not context.retained:
                raise Refusal(CUresult.CUDA_ERROR_INVALID_CONTEXT)
            context.retained -= 1

    @fake(1)
    def cuCtxGetCurrent(self) -> tuple[CUcontext]:
        """Return the context of the calling thread; 0 is none."""
        return (CUcontext(self.state.current),)

    @fake()
    def cuCtxSetCurrent(self, ctx: Any) -> None:
        """Make a context that of the calling thread; 0 is none."""
        if int(ctx) and int(ctx) not in {context.handle for context in self.state.contexts}:
            raise Refusal(CUresult.CUDA_ERROR_INVALID_CONTEXT)
        self.state.current = int(ctx)
