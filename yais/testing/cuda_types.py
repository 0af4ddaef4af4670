"""The types of the fake driver: handles, flags and statuses, with the numbers that the real ones have."""

# ruff: noqa: N801, N802 - the names are those of CUDA

from __future__ import annotations

import ctypes
import enum
from types import SimpleNamespace

__all__ = [
    "CUcontext",
    "CUdevice",
    "CUdeviceptr",
    "CUevent",
    "CUevent_flags",
    "CUgraph",
    "CUgraphExec",
    "CUipcMemHandle",
    "CUipcMem_flags",
    "CUmemAccessDesc",
    "CUmemAccess_flags",
    "CUmemAttach_flags",
    "CUmemLocationType",
    "CUresult",
    "CUstream",
    "CUstreamCaptureMode",
    "Refusal",
]


class CUdevice(int):
    """A GPU."""


class CUcontext(int):
    """A context; 0 is none."""


class CUstream(int):
    """A stream."""


class CUevent(int):
    """An event."""


class CUgraph(int):
    """A graph; 0 is none."""


class CUgraphExec(int):
    """A graph that can be launched."""


class CUdeviceptr(int):
    """An address."""


class CUresult(enum.IntEnum):
    """Statuses, as far as the fake returns them or a test may ask for them."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NOT_INITIALIZED = 3
    CUDA_ERROR_DEINITIALIZED = 4
    CUDA_ERROR_NO_DEVICE = 100
    CUDA_ERROR_INVALID_DEVICE = 101
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_MAP_FAILED = 205
    CUDA_ERROR_ECC_UNCORRECTABLE = 214
    CUDA_ERROR_OPERATING_SYSTEM = 304
    CUDA_ERROR_INVALID_HANDLE = 400
    CUDA_ERROR_NOT_READY = 600
    CUDA_ERROR_ILLEGAL_ADDRESS = 700
    CUDA_ERROR_CONTEXT_IS_DESTROYED = 709
    CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED = 712
    CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED = 713
    CUDA_ERROR_LAUNCH_FAILED = 719
    CUDA_ERROR_NOT_PERMITTED = 800
    CUDA_ERROR_NOT_SUPPORTED = 801
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901
    CUDA_ERROR_CAPTURED_EVENT = 907
    CUDA_ERROR_UNKNOWN = 999


class CUevent_flags(enum.IntEnum):
    """How threads wait for an event, and whether it takes the time."""

    CU_EVENT_DEFAULT = 0
    CU_EVENT_BLOCKING_SYNC = 1
    CU_EVENT_DISABLE_TIMING = 2


class CUstreamCaptureMode(enum.IntEnum):
    """What others may do during a capture."""

    CU_STREAM_CAPTURE_MODE_GLOBAL = 0
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1
    CU_STREAM_CAPTURE_MODE_RELAXED = 2


class CUmemAttach_flags(enum.IntEnum):
    """Who reaches managed memory."""

    CU_MEM_ATTACH_GLOBAL = 1


class CUipcMem_flags(enum.IntEnum):
    """How memory of another process is opened."""

    CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS = 1


class CUmemLocationType(enum.IntEnum):
    """Where memory is."""

    CU_MEM_LOCATION_TYPE_DEVICE = 1


class CUmemAccess_flags(enum.IntEnum):
    """What may be done with memory."""

    CU_MEM_ACCESS_FLAGS_PROT_READWRITE = 3


class CUmemAccessDesc:
    """Who may do what with the memory of a pool."""

    def __init__(self) -> None:
        self.location = SimpleNamespace(type=None, id=0)
        self.flags: CUmemAccess_flags | None = None


class CUipcMemHandle:
    """The 64 bytes by which another process opens memory."""

    def __init__(self) -> None:
        self._bytes = (ctypes.c_ubyte * 64)()

    def getPtr(self) -> int:
        """Return the address of the bytes."""
        return ctypes.addressof(self._bytes)


class Refusal(Exception):
    """What a fake function ends with instead of success."""

    def __init__(self, status: CUresult) -> None:
        super().__init__(status.name)
        self.status = status
