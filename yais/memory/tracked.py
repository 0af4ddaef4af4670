"""Tracked memory: who has how much."""

from __future__ import annotations

import functools
import threading
from typing import Any

from yais.memory.account import Account, MemoryUsage
from yais.memory.adaptor import Adaptor
from yais.memory.buffer import Buffer
from yais.memory.resource import MemoryResource

__all__ = ["MemoryTracker", "TrackedResource"]


class MemoryTracker:
    """Bytes in use by owner and kind of memory. Thread-safe.

    An owner stays in it for good, with 0 bytes once it has nothing. `yais.telemetry.memory.MemoryCollector`
    tells Prometheus.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[tuple[str, str], Account] = {}

    def __repr__(self) -> str:
        usages = self.statistics().values()
        used = sum(usage.bytes for usage in usages)
        return f"<MemoryTracker: {used} bytes in use, {len(usages)} accounts>"

    def account(self, owner: str, kind: str) -> Account:
        """Return the account of an owner for a kind of memory, opened if need be."""
        with self._lock:
            return self._accounts.setdefault((owner, kind), Account())

    def statistics(self) -> dict[tuple[str, str], MemoryUsage]:
        """Return the numbers of each (owner, kind)."""
        with self._lock:
            accounts = list(self._accounts.items())
        return {key: account.usage() for key, account in accounts}


class TrackedResource(Adaptor):
    """Counts what one owner has of its upstream, in the sizes that are asked for. Thread-safe.

    Over a pool it counts what is in use; between the pool and its upstream, what the pool holds.

    Parameters
    ----------
    upstream
        Where the memory comes from.
    owner
        Whose it is, such as the name of a model. Resources of the same owner and kind share one account.
    tracker
        Counts for several owners; by default one of its own.

    Attributes
    ----------
    kind
        "pinned" if a GPU can access the memory, else "host".
    """

    def __init__(self, upstream: MemoryResource, *, owner: str, tracker: MemoryTracker | None = None) -> None:
        super().__init__(upstream)
        self.owner = owner
        self.kind = "pinned" if upstream.is_device_accessible else "host"
        self.tracker = tracker if tracker is not None else MemoryTracker()
        self._account = self.tracker.account(owner, self.kind)

    def __repr__(self) -> str:
        now = self.statistics()
        return (
            f"<TrackedResource {self.owner}: {now.bytes} bytes in {now.buffers} buffers, "
            f"at most {now.high_water_bytes}>"
        )

    def allocate(self, size: int, *, stream: Any = None) -> Buffer:
        """Return a buffer of `size` bytes; raises what the upstream raises."""
        memory = self._memory(size, stream)
        self._account.debit(size)
        return Buffer(memory, functools.partial(self._account.credit, size), resource=self)

    def statistics(self) -> MemoryUsage:
        """Return the numbers of its owner, for its kind of memory."""
        return self._account.usage()
