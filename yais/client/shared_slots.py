"""Memory for the inputs of requests, which a server on the same machine reads where it lies."""

from __future__ import annotations

import contextlib
from typing import Any

from yais.client.infer_call import InferAnswer, InferCall
from yais.client.inference_service import service_method
from yais.client.shared_slot import Slot
from yais.client.slot_exchange import SlotExchange
from yais.core.clock import Deadline
from yais.core.future import Future
from yais.core.pool import Lease, Pool, PoolStatistics
from yais.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, YaisError
from yais.memory.shared_region import SharedRegion
from yais.protocol import kserve_pb2 as pb
from yais.rpc.client import Call, Channels

__all__ = ["SharedSlots"]


class SharedSlots:
    """So many slots of so many bytes, for requests to one server. Thread-safe.

    A slot is registered with the server once, by the first request in it, and again if the server has been
    started anew. It is free for the next request when the server has answered. After a request that ended
    otherwise, cancelled for example, the server may still read; so the slot gets another region, and the
    memory of the old one goes when the server lets go of it.

    Parameters
    ----------
    channels
        To the server, which must see this process' shared memory, run as the same user, and allow clients to
        name regions (`--allow-client-shm`).
    count, size
        How many slots, and bytes of each.
    name
        What the names of the regions begin with, before a "-": letters, digits, "_", "-", ".". No other
        process's may begin so: `clear` takes all of them for what an earlier one of this name has left.
    timeout
        Seconds a request may take unless it says otherwise.

    Examples
    --------
    >>> lease = slots.acquire(1.0)
    >>> np.copyto(np.frombuffer(lease.item.view, np.float32), pixels.ravel())
    >>> inputs = [InputTensor(spec, lease.item.place(pixels.nbytes))]
    >>> slots.infer(lease, InferCall("classifier", inputs), timeout=1.0).result().outputs
    """

    def __init__(
        self, channels: Channels, *, count: int, size: int, name: str, timeout: float = 30.0
    ) -> None:
        if count < 1 or size < 1:
            raise InvalidArgument(f"got {count} slots of {size} bytes, expected at least 1 of 1")
        self._name = name
        self._timeout = timeout
        self._infer = service_method(channels, "ModelInfer", timeout)
        self._register = service_method(channels, "SystemSharedMemoryRegister", timeout)
        self._unregister = service_method(channels, "SystemSharedMemoryUnregister", timeout)
        self._status = service_method(channels, "SystemSharedMemoryStatus", timeout)
        self._slots = [Slot(name, size) for _ in range(count)]
        self._pool = Pool(self._slots, name=name)

    def __repr__(self) -> str:
        return f"<SharedSlots of {self._slots[0].size} bytes: {self._pool!r}>"

    def clear(self) -> None:
        """Take away what an earlier process of the same name has left, here and at the server.

        Raises
        ------
        YaisError
            What the server answers; Unavailable if it cannot be reached.
        """
        SharedRegion.unlink_left(f"{self._name}-")
        for name in self._status.call(pb.SystemSharedMemoryStatusRequest()).regions:
            if name.startswith(f"{self._name}-"):
                self._unregister.call(pb.SystemSharedMemoryUnregisterRequest(name=name))

    def acquire(self, timeout: float) -> Lease[Slot]:
        """Return a slot, waiting up to `timeout` seconds: to be released, or given to `infer`.

        Raises
        ------
        ResourceExhausted
            None became free in time.
        Unavailable
            The slots are closed.
        """
        try:
            return self._pool.acquire(timeout)
        except DeadlineExceeded:
            waited = f"{self!r}: no slot became free within {timeout:g} s"
            raise ResourceExhausted(waited) from None

    def infer(
        self, lease: Lease[Slot], call: InferCall, *, timeout: float | None = None
    ) -> Future[InferAnswer]:
        """Send a request whose inputs lie in a slot; returns at once. The lease is released here.

        Cancelling the future cancels the request.

        Parameters
        ----------
        timeout
            Seconds the request may take.

        Returns
        -------
        Future
            Fails with the `YaisError` of the server's status. Callbacks run on the connection's thread.
        """
        deadline = Deadline.after(self._timeout if timeout is None else timeout)
        try:
            exchange = SlotExchange(lease, call, self._infer, self._register, deadline, self._let_go)
        except BaseException:  # what cannot be put into a message
            lease.release()
            raise
        exchange.begin()
        return exchange

    def statistics(self) -> PoolStatistics:
        """Return how many slots are in use, and how long was waited for them."""
        return self._pool.statistics()

    def close(self, timeout: float = 5.0) -> bool:
        """Lend nothing any more; take the regions away, from the server and the machine.

        Returns
        -------
        bool
            Whether all requests had ended within `timeout` seconds.
        """
        deadline = Deadline.after(timeout)
        ended = self._pool.close(timeout)
        calls = [call for slot in self._slots if (call := self._let_go(slot)) is not None]
        for call in calls:
            call.wait(deadline.remaining())
        return ended

    def _let_go(self, slot: Slot) -> Call[Any] | None:
        name = slot.drop()
        if name is None:
            return None
        with contextlib.suppress(YaisError):  # disconnected; a server that is gone has no regions
            return self._unregister.submit(pb.SystemSharedMemoryUnregisterRequest(name=name))
        return None
