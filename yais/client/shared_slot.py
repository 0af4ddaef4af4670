"""A piece of shared memory for one request at a time."""

from __future__ import annotations

import secrets

from yais.client.infer_call import SharedTensor
from yais.errors import InvalidArgument
from yais.memory.shared_region import SharedRegion

__all__ = ["Slot"]


class Slot:
    """Memory for one request at a time: a region of shared memory. For whoever has leased it alone.

    Attributes
    ----------
    size
        In bytes.
    registered
        Whether the server is known to have the region.
    """

    def __init__(self, name: str, size: int) -> None:
        self.size = size
        self.registered = False
        self._prefix = name
        self._region: SharedRegion | None = None

    def __repr__(self) -> str:
        return f"<Slot of {self.size} bytes: {self._region!r}>"

    @property
    def region(self) -> SharedRegion:
        """The memory, made when it is first asked for. Raises ResourceExhausted if there is not so much."""
        if self._region is None:
            self._region = SharedRegion.create(self.size, name=f"{self._prefix}-{secrets.token_hex(8)}")
        return self._region

    @property
    def name(self) -> str:
        """The region's at the server. Raises as `region`."""
        return self.region.name.lstrip("/")

    @property
    def view(self) -> memoryview:
        """All of its bytes, to be written before the request is sent. Raises as `region`."""
        return self.region.view()

    def place(self, byte_size: int, offset: int = 0) -> SharedTensor:
        """Return where a tensor lies, for an `InputTensor`.

        Raises
        ------
        InvalidArgument
            It does not lie within the slot.
        """
        if offset < 0 or not 0 <= byte_size <= self.size - offset:
            got = f"{byte_size} bytes from {offset} on"
            raise InvalidArgument(f"got {got}, expected them within a slot of {self.size}")
        return SharedTensor(self.name, byte_size, offset)

    def drop(self) -> str | None:
        """Let go of the region, and return its name at the server; None if there is none.

        The memory stays for as long as the server reads it.
        """
        region, self._region, self.registered = self._region, None, False
        if region is None:
            return None
        region.close()
        return region.name.lstrip("/")
