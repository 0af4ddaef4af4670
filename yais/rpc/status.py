"""The status that an exception of user code ends an RPC with."""

from __future__ import annotations

from yais.errors import Code, status_of

__all__ = ["status_of_any"]


def status_of_any(error: BaseException) -> tuple[Code, str]:
    """Return what `yais.errors.status_of` does, or UNKNOWN for an error that cannot even be printed."""
    try:
        return status_of(error)
    except BaseException:
        return Code.UNKNOWN, type(error).__name__
