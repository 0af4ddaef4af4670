"""A thread for what takes long, so that the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["Background"]

P = ParamSpec("P")
T = TypeVar("T")


class Background:
    """Runs functions on a thread, one at a time: several would take the interpreter from the loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a function returns; raise what it raises."""
        async with self._turn:
            return await asyncio.to_thread(function, *args, **kwargs)
