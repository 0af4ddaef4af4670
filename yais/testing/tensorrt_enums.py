"""The enumerations of a fake TensorRT, with the members that all versions have."""

from __future__ import annotations

import enum

__all__ = [
    "DataType",
    "EngineCapability",
    "EngineStat",
    "ExecutionContextAllocationStrategy",
    "Severity",
    "TensorIOMode",
    "TensorLocation",
]


class Severity(enum.IntEnum):
    """How bad what is logged is."""

    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class DataType(enum.Enum):
    """Types of elements."""

    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    FP8 = 6
    BF16 = 7
    INT64 = 8
    INT4 = 9
    FP4 = 10
    E8M0 = 11


class TensorIOMode(enum.Enum):
    """What a tensor is."""

    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorLocation(enum.Enum):
    """Where a tensor is."""

    DEVICE = 0
    HOST = 1


class ExecutionContextAllocationStrategy(enum.Enum):
    """Who allocates the activation memory of a context."""

    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class EngineCapability(enum.Enum):
    """What a plan is for."""

    STANDARD = 0
    SAFETY = 1
    DLA_STANDALONE = 2


class EngineStat(enum.Enum):
    """What an engine can be asked."""

    TOTAL_WEIGHTS_SIZE = 0
    STRIPPED_WEIGHTS_SIZE = 1
