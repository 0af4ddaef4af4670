"""System shared memory: the regions of clients, by the names that clients gave them."""

from __future__ import annotations

import logging
import resource
import threading
from collections.abc import Collection

from yais.errors import (
    AlreadyExists,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unimplemented,
    YaisError,
)
from yais.memory.shared_region import SharedRegion
from yais.serving.mapped_region import MappedRegion, Region

__all__ = ["NOT_ALLOWED", "Region", "SystemSharedMemory", "expect_place"]

NOT_ALLOWED = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."

_RESERVED = "triton_python_backend_shm_region_"

_MAX_REGIONS = 16384  # a quarter of the mappings that Linux lets a process have (vm.max_map_count)

_log = logging.getLogger("yais.serving")


class SystemSharedMemory:
    """The regions that clients have registered. Thread-safe.

    Parameters
    ----------
    allowed
        Whether clients may have regions at all.
    limit
        Regions at most. By default a quarter of the descriptors that this process may have: a region
        takes two.

    Attributes
    ----------
    allowed
        As given.
    """

    def __init__(self, *, allowed: bool, limit: int | None = None) -> None:
        self.allowed = allowed
        self._limit = _most() if limit is None else limit
        self._lock = threading.Lock()  # of those who change what follows; one look needs none
        self._regions: dict[str, MappedRegion] = {}

    def __repr__(self) -> str:
        state = f"{len(self._regions)} of {self._limit} regions" if self.allowed else "not allowed"
        return f"<SystemSharedMemory: {state}>"

    def __contains__(self, name: str) -> bool:
        """Return whether there is a region of that name."""
        return name in self._regions

    def register(self, region: Region) -> None:
        """Attach to a region. The file must be this user's and open to nobody else.

        Raises
        ------
        Unimplemented
            Clients may not have regions.
        AlreadyExists
            There is a region of that name.
        Internal
            There is no such file, or it is not one to share; the latter is logged.
        InvalidArgument
            The key is not for clients, or the region is empty or does not lie within the file.
        ResourceExhausted
            There are too many regions.
        """
        name, key = region.name, region.key
        if not self.allowed:
            raise Unimplemented(NOT_ALLOWED)
        if key.lstrip("/").startswith(_RESERVED):
            raise InvalidArgument(
                f"cannot register shared memory region '{name}' with key '{key}' as the key contains the "
                f"reserved prefix '{_RESERVED}'"
            )
        with self._lock:
            expect_place(name, self._regions, self._limit)
            self._regions[name] = _mapped(region)

    def unregister(self, name: str) -> None:
        """Let go of a region, or of all for ""; one in use goes when its last view does.

        A name that is none is no error.
        """
        with self._lock:
            if name:
                self._regions.pop(name, None)
            else:
                self._regions.clear()

    def status(self, name: str) -> list[Region]:
        """Return a region, or all for "". Raises NotFound."""
        with self._lock:
            if not name:
                return [mapped.region for mapped in self._regions.values()]
            mapped = self._regions.get(name)
        if mapped is None:
            raise NotFound(f"Unable to find system shared memory region: '{name}'")
        return [mapped.region]

    def find(self, name: str) -> MappedRegion:
        """Return a region; it can be used when it is unregistered since.

        Raises
        ------
        Unimplemented
            Clients may not have regions.
        NotFound
            There is none of that name.
        """
        mapped = self._regions.get(name)
        if mapped is None:
            if not self.allowed:
                raise Unimplemented(NOT_ALLOWED)
            raise NotFound(f"Unable to find shared memory region: '{name}'")
        return mapped


def expect_place(name: str, regions: Collection[str], limit: int) -> None:
    """Raise AlreadyExists if there is a region of a name, and ResourceExhausted if there are too many."""
    if name in regions:
        raise AlreadyExists(f"shared memory region '{name}' already in manager")
    if len(regions) >= limit:
        raise ResourceExhausted(f"cannot register shared memory region '{name}': there are {limit} already")


def _most() -> int:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_REGIONS if descriptors == resource.RLIM_INFINITY else min(descriptors // 4, _MAX_REGIONS)


def _mapped(region: Region) -> MappedRegion:
    if region.offset < 0 or region.byte_size < 1:
        raise _invalid(region)
    try:
        # Triton goes by shm_open, which takes any number of slashes.
        memory = SharedRegion.attach(region.key.lstrip("/"), private=True)
    except NotFound:
        raise Internal(f"Unable to open shared memory region: '{region.key}'") from None
    except YaisError as error:
        _log.warning("shared memory region %r is refused: %s", region.name, error)
        raise Internal(f"Unable to open shared memory region: '{region.key}': {error}") from None
    if region.offset + region.byte_size > memory.size:
        memory.close()  # the error's traceback keeps it
        raise _invalid(region)
    return MappedRegion(region, memory)


def _invalid(region: Region) -> InvalidArgument:
    return InvalidArgument(f"failed to register shared memory region '{region.name}': invalid args")
