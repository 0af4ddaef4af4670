"""Names that must differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

__all__ = ["repeated"]


def repeated(names: Iterable[str]) -> str | None:
    """Return the first of the names that is there more than once; None if all differ."""
    return next((name for name, count in Counter(names).items() if count > 1), None)
