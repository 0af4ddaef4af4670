"""The memory of a GPU in numbers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DeviceStatistics"]


@dataclass(frozen=True, slots=True)
class DeviceStatistics:
    """The memory of a GPU, in bytes.

    Attributes
    ----------
    free_bytes, total_bytes
        As the driver says, whoever has it.
    held_bytes
        What was allocated through its `CudaDevice` and not given back, by kind: "device", "managed", "pinned"
        and "ipc" for what another process has.
    """

    free_bytes: int
    total_bytes: int
    held_bytes: dict[str, int]
