"""A request whose inputs lie in a slot of shared memory, from registering the slot to giving it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yais.client.infer_call import InferAnswer, InferCall
from yais.client.infer_message import answer_of, request_of
from yais.client.shared_slot import Slot
from yais.core.clock import Deadline
from yais.core.future import Future
from yais.core.pool import Lease
from yais.errors import Code, NotFound, YaisError
from yais.protocol import kserve_pb2 as pb
from yais.rpc.client import Call, ClientUnary

__all__ = ["SlotExchange"]

# What nobody but the server says, when it reads the inputs no more. The others may come of a deadline, a
# cancellation or a broken connection, while the server goes on.
_WORD_OF_SERVER = frozenset(
    {
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.RESOURCE_EXHAUSTED,
        Code.FAILED_PRECONDITION,
        Code.UNIMPLEMENTED,
    }
)


class SlotExchange(Future[InferAnswer]):
    """A request in a slot. Cancelling it cancels what is called. Thread-safe.

    Parameters
    ----------
    lease
        Of the slot; released before the future is complete.
    call
        The request.
    infer, register
        ModelInfer and SystemSharedMemoryRegister of the server.
    deadline
        Of all of it.
    let_go
        Called with a slot whose region the server may still read, or may have, before it is released.

    Raises
    ------
    ResourceExhausted
        There is no memory for the slot's region.
    """

    def __init__(
        self,
        lease: Lease[Slot],
        call: InferCall,
        infer: ClientUnary[Any, Any],
        register: ClientUnary[Any, Any],
        deadline: Deadline,
        let_go: Callable[[Slot], object],
    ) -> None:
        super().__init__()
        self._lease = lease
        self._slot = lease.item
        self._region_name = self._slot.name
        self._request = request_of(call)
        self._infer = infer
        self._register = register
        self._deadline = deadline
        self._let_go = let_go
        self._call: Call[Any] | None = None
        self._again = True  # whether a server that does not know the region is asked once more

    def begin(self) -> None:
        """Register the slot, unless the server has it, and send the request."""
        name, slot = self._region_name, self._slot
        if slot.registered:
            self._send(self._infer, self._request, self._answered)
            return
        region = pb.SystemSharedMemoryRegisterRequest(name=name, key=f"/{name}", byte_size=slot.size)
        self._send(self._register, region, self._registered)

    def cancel(self) -> bool:
        """Cancel the request unless it is over; return whether it is cancelled now."""
        cancelled = super().cancel()
        call = self._call
        if cancelled and call is not None:
            call.cancel()
        return cancelled

    def _send(self, method: ClientUnary[Any, Any], message: Any, done: Callable[[Call[Any]], None]) -> None:
        try:
            call = method.submit(message, timeout=self._deadline.remaining())
        except YaisError as error:
            self._end(error)
            return
        self._call = call
        if self.cancelled():  # before this call could be seen by who cancelled
            call.cancel()
        call.add_done_callback(done)

    def _registered(self, call: Call[Any]) -> None:
        error = _error(call)
        if error is not None:
            self._end(error)
            return
        self._slot.registered = True
        self.begin()

    def _answered(self, call: Call[Any]) -> None:
        error = _error(call)
        if error is None:
            self._end(None)
        elif self._again and isinstance(error, NotFound) and self._region_name in str(error):
            # The server was started anew, and knows nothing of the regions of the one before.
            self._again = self._slot.registered = False
            self.begin()
        else:
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        code = error.code if isinstance(error, YaisError) else None
        if error is not None and (code not in _WORD_OF_SERVER or not self._slot.registered):
            self._let_go(self._slot)
        self._lease.release()
        if not self.set_running_or_notify_cancel():
            return
        try:
            if error is not None:
                raise error
            assert self._call is not None
            answer = answer_of(self._call.result())
        except BaseException as failure:
            self.set_exception(failure)
        else:
            self.set_result(answer)


def _error(call: Call[Any]) -> BaseException | None:
    """Return what a call that is over has failed with, being cancelled included."""
    try:
        call.result()
    except BaseException as error:
        return error
    return None
