"""Contexts of unary RPCs: the logic of an RPC, as users write it."""

from __future__ import annotations

from collections.abc import Awaitable
from concurrent.futures import Future
from typing import TypeVar, Union

from yais.rpc.base_context import BaseContext, ReplyT, RequestT, ResourcesT

__all__ = ["Answer", "Context"]

AnswerT = TypeVar("AnswerT")

Answer = Union[AnswerT, "Future[AnswerT]", Awaitable[AnswerT]]
"""What the code of a context may return: the thing itself, a future of it, or a coroutine that returns it."""


class Context(BaseContext[RequestT, ReplyT, ResourcesT]):
    """One unary RPC: one request, one reply. Subclass it and write `execute`."""

    def execute(self, request: RequestT) -> Answer[ReplyT]:
        """Answer the request.

        Runs on the executor's thread, which serves every other RPC of that executor too: return at once,
        return a future that another thread completes, or write `async def` and run on the server's
        asyncio loop. Raise a `YaisError` to end the RPC with its status; any other exception ends it with
        the status that `yais.errors.status_of` gives and is logged.
        """
        raise NotImplementedError(f"{type(self).__name__} has no execute method")
