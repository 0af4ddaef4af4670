"""Metadata: the headers of an RPC as a mapping."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from yais.rpc.completion_queue import MetadataItem

__all__ = ["Metadata"]


class Metadata(Mapping[str, str | bytes]):
    """The metadata a caller sent. Keys are lower case; values of keys ending in "-bin" are bytes.

    A key may occur more than once: `[key]` gives the last value, `get_all` every one in order.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Sequence[MetadataItem]) -> None:
        self._items = tuple(items)

    def __getitem__(self, key: str) -> str | bytes:
        for name, value in reversed(self._items):
            if name == key:
                return value
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._items))

    def __len__(self) -> int:
        return len(dict(self._items))

    def __repr__(self) -> str:
        return f"Metadata({list(self._items)!r})"

    def pairs(self) -> tuple[MetadataItem, ...]:
        """Return all (key, value) pairs, in the order in which they were sent."""
        return self._items

    def get_all(self, key: str) -> list[str | bytes]:
        """Return all values of a key, in the order in which they were sent."""
        return [value for name, value in self._items if name == key]
