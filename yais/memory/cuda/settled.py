"""How work on a stream ends when something raises."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

__all__ = ["settled"]


@contextlib.contextmanager
def settled(stream: Any) -> Iterator[None]:
    """Let what is queued on a stream end before an error goes on."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):  # the error at hand is the one to tell
            stream.sync()
        raise
