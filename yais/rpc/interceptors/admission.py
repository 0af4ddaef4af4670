"""Admission: a limit to the calls in flight, over the whole server and for each caller."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from yais.errors import Code, ResourceExhausted
from yais.rpc.interceptor import Ended, IncomingCall, Interceptor
from yais.rpc.interceptors.exemption import HEALTH, Exemption
from yais.rpc.interceptors.peer import Peer

__all__ = ["Admission", "AdmissionStatistics"]


@dataclass(frozen=True, slots=True)
class AdmissionStatistics:
    """The numbers of an `Admission` at one moment.

    Attributes
    ----------
    in_flight
        Calls that were admitted and are not over.
    peers
        Callers that have calls in flight.
    admitted_total, refused_total, refused_peer_total
        Calls since it was made: admitted, refused because of `max_in_flight`, because of `max_per_peer`.
    """

    in_flight: int
    peers: int
    admitted_total: int
    refused_total: int
    refused_peer_total: int


class Admission(Interceptor):
    """Refuses with RESOURCE_EXHAUSTED what comes on top of a number of calls in flight.

    The contexts of an RPC are a limit, too: what comes on top of those waits in gRPC core. This one refuses,
    and counts all RPCs together. A caller is its identity if that is known (so what finds out comes before
    this in `Server(interceptors=...)`), and else the address of its host. Callers on a unix socket look
    alike. Memory is bounded by the calls in flight. Thread-safe.

    Parameters
    ----------
    max_in_flight
        Calls at once over the whole server; None means no limit.
    max_per_peer
        Calls at once of one caller; None means no limit.
    exempt
        Methods that are neither refused nor counted: "/package.Service/" or "/package.Service/Method".

    Raises
    ------
    ValueError
        Both limits are None, or one is less than 1.

    Examples
    --------
    >>> server = Server("0.0.0.0:50051", interceptors=[Admission(1000, max_per_peer=100)])
    """

    def __init__(
        self,
        max_in_flight: int | None = None,
        *,
        max_per_peer: int | None = None,
        exempt: Iterable[str] = HEALTH,
    ) -> None:
        limits = [limit for limit in (max_in_flight, max_per_peer) if limit is not None]
        if not limits or min(limits) < 1:
            raise ValueError(
                f"got max_in_flight={max_in_flight}, max_per_peer={max_per_peer}, "
                "expected at least one limit, of at least 1"
            )
        self._max_in_flight = max_in_flight
        self._max_per_peer = max_per_peer
        self._exempt = Exemption(exempt)
        self._lock = threading.Lock()
        self._in_flight = 0
        self._peers: dict[str, int] = {}
        self._admitted = 0
        self._refused = 0
        self._refused_peer = 0

    def __repr__(self) -> str:
        now = self.statistics()
        most = "any number" if self._max_in_flight is None else self._max_in_flight
        each = "" if self._max_per_peer is None else f" of at most {self._max_per_peer} each"
        refused = now.refused_total + now.refused_peer_total
        return f"<Admission: {now.in_flight} of {most} in flight, {now.peers} peers{each}, {refused} refused>"

    def statistics(self) -> AdmissionStatistics:
        """Return the numbers of now."""
        with self._lock:
            return AdmissionStatistics(
                self._in_flight, len(self._peers), self._admitted, self._refused, self._refused_peer
            )

    def begin(self, call: IncomingCall) -> Ended | None:
        """Admit the call and count it until it is over, or refuse it."""
        if call.method in self._exempt:
            return None
        peer = _name(call)
        with self._lock:
            self._check(peer)
            self._in_flight += 1
            self._admitted += 1
            self._peers[peer] = self._peers.get(peer, 0) + 1

        def ended(_code: Code) -> None:
            with self._lock:
                self._in_flight -= 1
                left = self._peers[peer] - 1
                if left:
                    self._peers[peer] = left
                else:
                    del self._peers[peer]

        return ended

    def _check(self, peer: str) -> None:
        if self._max_in_flight is not None and self._in_flight >= self._max_in_flight:
            self._refused += 1
            raise ResourceExhausted(
                f"max_in_flight: got one more call than the {self._max_in_flight} this server takes at once"
            )
        if self._max_per_peer is not None and self._peers.get(peer, 0) >= self._max_per_peer:
            self._refused_peer += 1
            raise ResourceExhausted(
                f"max_per_peer: got one more call than the {self._max_per_peer} taken at once from {peer}"
            )


def _name(call: IncomingCall) -> str:
    if call.identity is not None:
        return f"identity {call.identity!r}"
    peer = Peer.parse(call.peer)
    return f"{peer.family}:{peer.address}"
