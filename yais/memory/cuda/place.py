"""Where memory of a GPU is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from yais.core.topology import NumaNode

__all__ = ["Place"]


class Place(Protocol):
    """Where memory and streams are for; `yais.lane.Placement` is one."""

    @property
    def name(self) -> str:
        """Of the place; the owner of its memory."""

    @property
    def node(self) -> NumaNode | None:
        """The NUMA node near it; None leaves host memory to the kernel."""
