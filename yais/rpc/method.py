"""Methods: what a server knows of one RPC before any call arrives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from yais.rpc.context import Context

__all__ = ["Method"]


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """One RPC of a service and the context class that serves it.

    Attributes
    ----------
    path
        "/package.Service/Method".
    context
        The class of which an instance serves each call.
    contexts
        Calls in flight at most, per executor thread.
    deserialize, serialize
        Bytes to request, reply to bytes; may raise.
    reply_type
        Class of the replies, or None when `serialize` takes several.
    """

    path: str
    context: type[Context[Any, Any, Any]]
    contexts: int
    deserialize: Callable[[bytes], Any]
    serialize: Callable[[Any], bytes]
    reply_type: type | None

    @property
    def reply_name(self) -> str:
        """What `execute` should have returned, for error messages."""
        return "another type" if self.reply_type is None else self.reply_type.__name__
