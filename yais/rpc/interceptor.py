"""Interceptors: what sees every call of a server, of whatever kind, before and after its own code.

    class Timing(yais.Interceptor):
        def begin(self, call):
            started = time.monotonic()
            return lambda code: print(call.method, code.name, time.monotonic() - started)

`begin` runs on an executor's thread when a call has arrived and a context is free for it, before its first
message is read. It may

- refuse: what it raises ends the call with its status, and neither the context nor any interceptor after
  this one learns of the call;
- wrap: what it returns is called, once, when the call is over; context variables that it sets are visible
  to the code that serves the call, on every thread and in every task of that code;
- add metadata: `call.trailing_metadata` is sent with the status;
- name the caller: `call.identity` is what contexts see as `self.identity`.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from yais.core.clock import Deadline
from yais.errors import Code, status_of
from yais.rpc.completion_queue import MetadataItem, ServerCall
from yais.rpc.metadata import Metadata

__all__ = ["Ended", "IncomingCall", "Interception", "Interceptor"]

_log = logging.getLogger("yais.rpc")

T = TypeVar("T")

Ended = Callable[[Code], object]
"""Called with the status when a call is over, on any thread. What it raises is logged."""


class IncomingCall:
    """A call as interceptors see it.

    Attributes
    ----------
    method
        "/package.Service/Method".
    known
        Whether the server has such a method. Otherwise the name is whatever the caller made up.
    waited
        Nanoseconds that it waited for a context, as far as the server knows: see `MethodStatistics.waiting`.
        0 for what has no contexts, such as mounted servicers.
    trailing_metadata
        Pairs to send with the status; append to it in `begin`.
    """

    def __init__(self, method: str, call: ServerCall, *, known: bool = True, waited: int = 0) -> None:
        self.method = method
        self.known = known
        self.waited = waited
        self._identity: str | None = None
        self.trailing_metadata: list[MetadataItem] = []
        self._call = call

    def __repr__(self) -> str:
        return f"<IncomingCall {self.method} of {self.identity or self.peer}>"

    @property
    def identity(self) -> str | None:
        """Who calls: what an interceptor assigned, or what the certificate says under mutual TLS, or None."""
        return self._identity or self._call.identity

    @identity.setter
    def identity(self, identity: str) -> None:
        self._identity = identity

    @property
    def metadata(self) -> Metadata:
        """What the caller sent beside its requests."""
        return Metadata(self._call.metadata)

    @property
    def peer(self) -> str:
        """Address of the caller in gRPC's notation, such as "ipv4:127.0.0.1:5000"."""
        return self._call.peer

    @property
    def deadline(self) -> Deadline:
        """When the caller stops waiting."""
        return self._call.due

    @property
    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """What TLS knows of the connection, by gRPC's names such as "x509_common_name"."""
        return self._call.auth_context


class Interceptor:
    """Sees every call. Subclass it and write `begin`; one instance serves all executors at once."""

    def begin(self, call: IncomingCall) -> Ended | None:
        """Look at a call that has arrived; see the module. Must return at once."""
        raise NotImplementedError(f"{type(self).__name__} has no begin method")


class Interception:
    """What the interceptors of a server have to do with one call.

    Parameters
    ----------
    interceptors
        The outermost first: it begins first and is told of the end last.
    """

    __slots__ = ("_ended", "call", "variables")

    def __init__(self, call: IncomingCall) -> None:
        self.call = call
        self.variables = contextvars.Context()
        self._ended: list[Ended] = []

    def begin(self, interceptors: Sequence[Interceptor]) -> None:
        """Let every interceptor begin. Raises what one refuses with, after telling those before it."""
        for interceptor in interceptors:
            try:
                ended = self.variables.run(interceptor.begin, self.call)
            except BaseException as error:
                self.end(status_of(error)[0])
                raise
            if ended is not None:
                self._ended.append(ended)

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function where what the interceptors set is visible. From any thread."""
        return self.variables.copy().run(function, *arguments)

    def end(self, code: Code) -> None:
        """Tell every interceptor that began, once; a second end is ignored."""
        while self._ended:
            ended = self._ended.pop()
            try:
                self.variables.copy().run(ended, code)
            except BaseException:
                _log.exception("%s: an interceptor raised at the end of the call", self.call.method)
