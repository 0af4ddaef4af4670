"""Calls that come from nowhere: what interceptors are tested with where no server is needed."""

from __future__ import annotations

from collections.abc import Sequence

from yais.core.clock import NEVER
from yais.errors import Code
from yais.rpc.interceptor import IncomingCall, Interception, Interceptor

METHOD = "/tests.Service/Method"


class _Call:
    """As much of a `ServerCall` as interceptors see."""

    def __init__(self, peer: str, metadata: Sequence[tuple[str, str | bytes]], identity: str | None) -> None:
        self.peer = peer
        self.metadata = tuple(metadata)
        self.identity = identity
        self.due = NEVER
        self.auth_context = {}


def incoming(
    method: str = METHOD,
    *,
    peer: str = "ipv4:10.0.0.1:5000",
    metadata: Sequence[tuple[str, str | bytes]] = (),
    identity: str | None = None,
    known: bool = True,
) -> IncomingCall:
    """Make a call."""
    return IncomingCall(method, _Call(peer, metadata, identity), known=known)


def begun(
    interceptors: Sequence[Interceptor] | Interceptor, call: IncomingCall | None = None
) -> Interception:
    """Let interceptors begin a call."""
    interception = Interception(call or incoming())
    interception.begin([interceptors] if isinstance(interceptors, Interceptor) else interceptors)
    return interception


def pass_through(interceptor: Interceptor, call: IncomingCall | None = None, code: Code = Code.OK) -> None:
    """Let a call begin and end."""
    begun(interceptor, call).end(code)
