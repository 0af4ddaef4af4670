"""Methods: what a server knows of one RPC before any call arrives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from yais.rpc.base_context import BaseContext

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
    executor
        Name of the executor that serves it; None for the server's default one.
    request_stream, reply_stream
        Whether there are many requests, or many replies.
    lockstep
        Whether there is one answer to each request, before the next; see `StreamState`.
    deserialize, serialize
        Bytes to request, reply to bytes; may raise.
    reply_type
        Class of the replies, or None when `serialize` takes several.
    """

    path: str
    context: type[BaseContext[Any, Any, Any]]
    contexts: int
    executor: str | None
    request_stream: bool
    reply_stream: bool
    lockstep: bool
    deserialize: Callable[[bytes], Any]
    serialize: Callable[[Any], bytes]
    reply_type: type | None

    @property
    def streaming(self) -> bool:
        """Whether there are many requests, or many replies, or both."""
        return self.request_stream or self.reply_stream

    def encode(self, answer: Any) -> bytes:
        """Return the bytes of an answer.

        Raises
        ------
        TypeError
            The answer is of another type than `reply_type`: any protobuf message can be written, but not
            any can be read as this one. Or `serialize` returned something else than bytes.
        """
        if self.reply_type is not None and type(answer) is not self.reply_type:
            raise TypeError(f"got {type(answer).__name__}, expected {self.reply_type.__name__}")
        message = self.serialize(answer)
        if type(message) is not bytes:
            raise TypeError(f"serialize returned {type(message).__name__}, expected bytes")
        return message
