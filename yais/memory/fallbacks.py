"""Fall-backs: what was asked of the kernel and refused, where memory is worse without it but not wrong."""

from __future__ import annotations

import collections
import logging
import threading

__all__ = ["fall_back", "fallbacks"]

_log = logging.getLogger("yais.memory")
_lock = threading.Lock()
_counts: collections.Counter[str] = collections.Counter()


def fall_back(feature: str, reason: str) -> None:
    """Count that a feature was refused; logged as a warning the first time in the process. Thread-safe.

    Parameters
    ----------
    feature
        Such as "mbind".
    reason
        Why, and what is done instead.
    """
    with _lock:
        _counts[feature] += 1
        first = _counts[feature] == 1
    if first:
        _log.warning("%s is refused: %s", feature, reason)


def fallbacks() -> dict[str, int]:
    """Return how often each feature was refused in this process. Thread-safe."""
    with _lock:
        return dict(_counts)
