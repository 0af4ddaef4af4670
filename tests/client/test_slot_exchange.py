"""What becomes of a slot when the server answers oddly: asked once more at most, and never left in doubt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from yais.client.infer_call import InferCall
from yais.client.shared_slot import Slot
from yais.client.slot_exchange import SlotExchange
from yais.core.clock import Deadline
from yais.core.future import Future
from yais.core.pool import Pool
from yais.errors import FailedPrecondition, NotFound, YaisError
from yais.protocol import kserve_pb2 as pb


class Method:
    """An RPC that answers at once; `messages` is what it was asked."""

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self.messages: list[Any] = []
        self._answer = answer

    def submit(self, message: Any, *, timeout: float | None) -> Future[Any]:
        assert timeout is None or timeout > 0
        self.messages.append(message)
        call: Future[Any] = Future()
        try:
            call.set_result(self._answer(message))
        except YaisError as error:
            call.set_exception(error)
        return call


def refuse(error: YaisError) -> Callable[[Any], Any]:
    def answer(_message: Any) -> Any:
        raise error

    return answer


@pytest.fixture
def slot():
    slot = Slot("yais-test-exchange", 64)
    yield slot
    slot.drop()


def exchange(slot: Slot, infer: Method, register: Method) -> tuple[SlotExchange, list[str | None]]:
    """Begin a request in the slot; return it, and the regions that were let go of."""
    dropped: list[str | None] = []
    pool = Pool([slot], name="slots")
    begun = SlotExchange(
        pool.acquire(0.0),
        InferCall("model", []),
        infer,
        register,
        Deadline.after(10.0),
        lambda which: dropped.append(which.drop()),
    )
    begun.begin()
    assert pool.statistics().available == 1
    return begun, dropped


def test_a_server_that_never_knows_the_region_is_asked_twice(slot):
    infer = Method(refuse(NotFound(f"Unable to find shared memory region: '{slot.name}'")))
    register = Method(lambda _: pb.SystemSharedMemoryRegisterResponse())
    begun, dropped = exchange(slot, infer, register)
    with pytest.raises(NotFound, match=slot.name):
        begun.result(0)
    assert len(infer.messages) == len(register.messages) == 2
    assert register.messages[0] == pb.SystemSharedMemoryRegisterRequest(
        name=slot.name, key=f"/{slot.name}", byte_size=64
    )
    assert dropped == []  # it is the server's word that it reads nothing


def test_a_region_that_was_refused_is_another_ones_next_time(slot):
    """The server may have it all the same: of a request before that nobody waited for."""
    infer = Method(lambda _: pb.ModelInferResponse())
    name = slot.name
    begun, dropped = exchange(slot, infer, Method(refuse(FailedPrecondition("already registered"))))
    with pytest.raises(FailedPrecondition):
        begun.result(0)
    assert dropped == [name] and infer.messages == []
    assert slot.name != name
