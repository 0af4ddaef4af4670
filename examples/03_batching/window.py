"""When a batch begins and ends: a state machine without threads, clocks or gRPC."""

from __future__ import annotations

from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Window(Generic[ItemT]):
    """Collects items until there are `max_items`, or the first of them has waited for `max_delay`.

    Not thread-safe. All times are nanoseconds of one clock, whichever it is.
    """

    def __init__(self, max_items: int, max_delay: int) -> None:
        if max_items < 1 or max_delay < 0:
            raise ValueError(
                f"got max_items={max_items} and max_delay={max_delay} ns, expected at least 1 and at least 0"
            )
        self.due: int | None = None  # when the window closes; None while it is empty
        self._max_items = max_items
        self._max_delay = max_delay
        self._items: list[ItemT] = []

    def __len__(self) -> int:
        return len(self._items)

    def push(self, item: ItemT, now: int) -> list[ItemT]:
        """Add an item; return the batch if this completes it, else nothing."""
        if self.due is None:
            self.due = now + self._max_delay
        self._items.append(item)
        return self._close() if len(self._items) == self._max_items else []

    def take(self, now: int) -> list[ItemT]:
        """Return the batch if its time is over, else nothing."""
        return self._close() if self.due is not None and now >= self.due else []

    def _close(self) -> list[ItemT]:
        items, self._items, self.due = self._items, [], None
        return items
