"""The first bytes of a plan: which TensorRT built it."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from typing import Literal

from yais.errors import InvalidArgument

__all__ = ["TITLES", "Flavour", "PlanHeader", "is_plan"]

Flavour = Literal["tensorrt", "tensorrt_rtx"]
"""The families of TensorRT; neither reads the plans of the other."""

_FLAVOURS: dict[bytes, Flavour] = {b"ftrt": "tensorrt", b"vtrt": "tensorrt_rtx"}

# Tag, version of the format (0), 8 bytes of unknown use, size of the plan, version of the builder. The tag
# "ftrt" and where the version is are trtexec's (--getPlanVersionOnly); the rest is read off plans of
# TensorRT-RTX 1.7.
_HEADER = struct.Struct("<4sI8xQ4B")

TITLES: dict[Flavour, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
"""What the families are called."""


def is_plan(contents: bytes) -> bool:
    """Return whether a file with these contents says to be a plan."""
    return contents[:4] in _FLAVOURS


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """What the first bytes of a plan say.

    Attributes
    ----------
    flavour
        Which family of TensorRT it is for.
    version
        Of the TensorRT that built it: major, minor, patch, build, each modulo 256.
    """

    flavour: Flavour
    version: tuple[int, int, int, int]

    @classmethod
    def of(cls, plan: bytes | mmap.mmap) -> PlanHeader:
        """Read the header of a plan.

        Raises
        ------
        InvalidArgument
            It is no plan, one of a format that is not known, or is cut short.
        """
        head = plan[: _HEADER.size]
        flavour = _FLAVOURS.get(head[:4])
        if flavour is None:
            raise InvalidArgument(
                f"got {head[:16]!r} as the first bytes, expected a TensorRT plan, which begins with "
                "b'ftrt', or with b'vtrt' for TensorRT-RTX; 'yais build' makes plans of ONNX models"
            )
        if len(head) < _HEADER.size:
            raise InvalidArgument(f"got a plan of {len(head)} bytes, expected a header of {_HEADER.size}")
        _, form, size, *version = _HEADER.unpack(head)
        if form != 0:
            raise InvalidArgument(f"got a plan of format {form}, expected format 0")
        if flavour == "tensorrt_rtx" and size > len(plan):
            raise InvalidArgument(
                f"got {len(plan)} bytes of a plan, expected {size} as its header says: it is cut short"
            )
        major, minor, patch, build = version
        return cls(flavour, (major, minor, patch, build))

    def __str__(self) -> str:
        return f"{TITLES[self.flavour]} {'.'.join(map(str, self.version))}"
