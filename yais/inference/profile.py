"""Profiles: which shapes an input with dimensions of any size may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Profile"]


@dataclass(frozen=True, slots=True)
class Profile:
    """A range of shapes, all without the batch dimension, as TensorRT's optimisation profiles have it.

    Attributes
    ----------
    smallest, largest
        Bounds of every dimension, both allowed. Memory is planned for the largest.
    usual
        What to warm up with; the largest by default.

    Raises
    ------
    ValueError
        The shapes have different ranks, or a dimension of one is out of the bounds.
    """

    smallest: tuple[int, ...]
    largest: tuple[int, ...]
    usual: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.usual:
            object.__setattr__(self, "usual", self.largest)
        if not self.allows(self.usual) or not self.allows(self.smallest):
            raise ValueError(
                f"got a profile from {list(self.smallest)} to {list(self.largest)}, usually "
                f"{list(self.usual)}; expected shapes of one rank, each dimension within the bounds"
            )

    def allows(self, shape: Sequence[int]) -> bool:
        """Whether a shape is within the bounds."""
        return len(shape) == len(self.smallest) == len(self.largest) and all(
            low <= size <= high for low, size, high in zip(self.smallest, shape, self.largest, strict=True)
        )
