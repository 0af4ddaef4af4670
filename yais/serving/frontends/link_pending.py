"""What a frontend has asked of the engine process and has no answer to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any

from yais.errors import InvalidArgument
from yais.inference.request import InferResponse
from yais.serving.frontends.form_responses import ResponseForms
from yais.serving.frontends.link_bundles import parts_of
from yais.serving.frontends.link_future import LinkFuture
from yais.serving.frontends.link_outgoing import OutgoingRequest
from yais.serving.frontends.link_stream import ResponseTaker

__all__ = ["PendingRequests"]

Bundle = Sequence[LinkFuture[InferResponse]]


class PendingRequests:
    """Requests and calls by number, and how each ends.

    They are added and cleared under a lock of the session's, and end on the one thread that reads.

    Parameters
    ----------
    threads
        Where responses of decoupled models are handed out.
    forms
        Of responses.
    cancel
        Called with a future that was cancelled.
    taken
        Called with a request's number and how many responses were taken; see `ResponseTaker`.

    Attributes
    ----------
    next
        Number of the next one.
    ended
        How many have had their answer, a bundle being one.
    """

    def __init__(
        self,
        threads: Executor,
        forms: ResponseForms,
        cancel: Callable[[LinkFuture[Any]], object],
        taken: Callable[[int, int], object],
    ) -> None:
        self.next = 1
        self.ended = 0
        self._threads = threads
        self._forms = forms
        self._cancel = cancel
        self._taken = taken
        self._asked: dict[int, Bundle | LinkFuture[Any]] = {}
        self._takers: dict[int, ResponseTaker] = {}

    def __len__(self) -> int:
        bundled = [len(each) - 1 for each in list(self._asked.values()) if not isinstance(each, LinkFuture)]
        return len(self._asked) + sum(bundled)

    def __contains__(self, number: int) -> bool:
        return number in self._asked

    def add(self, group: Sequence[OutgoingRequest]) -> None:
        """Take in requests that are about to be written as one."""
        if len(group) > 1:
            self._asked[self.next] = [each.future for each in group]
        for each in group:
            each.future.id = each.message.id
            if each.respond is not None:
                taken = partial(self._taken, self.next)
                self._takers[self.next] = ResponseTaker(each.respond, self._threads, taken)
            self._number(each.future, bundled=len(group) > 1)

    def add_call(self, future: LinkFuture[bytes]) -> None:
        """Take in a call that is about to be written."""
        self._number(future, bundled=False)

    def remove(self, number: int) -> Bundle:
        """Forget what was not sent, if it is there; return its futures."""
        self._takers.pop(number, None)
        asked = self._asked.pop(number, ())
        return [asked] if isinstance(asked, LinkFuture) else asked

    def clear(self) -> list[tuple[LinkFuture[Any], ResponseTaker | None]]:
        """Forget all; return their futures, and what hands out their responses."""
        asked, self._asked = list(self._asked.values()), {}
        takers, self._takers = self._takers, {}
        futures = [each for one in asked for each in ([one] if isinstance(one, LinkFuture) else one)]
        return [(each, takers.get(each.number)) for each in futures]

    # --- On the thread that reads; what is not pending raises InvalidArgument ------------------------------

    def split(self, number: int) -> None:
        """Take in that the requests of a bundle are answered one by one."""
        bundle = self._take(number)
        self._asked.update({each.number: each for each in bundle})  # type: ignore[union-attr]

    def id_of(self, number: int) -> str:
        """Return what the sender of a request calls it."""
        return getattr(self._asked.get(number), "id", "")

    def responded(self, number: int, response: InferResponse) -> None:
        """Hand out one of several responses."""
        taker = self._takers.get(number)
        if taker is not None:
            taker.put(response)
        elif not 0 < number < self.next:  # of one that was cancelled some may come after its end
            raise InvalidArgument(f"got a response to {number}, expected one to what streams")

    def answered(self, number: int, response: InferResponse) -> None:
        """Complete a request, or each of a bundle."""
        pending = self._take(number)
        if not isinstance(pending, LinkFuture):
            self._deal_out(pending, response)
            return
        taker = self._takers.pop(number, None) if self._takers else None
        if taker is None:
            pending.answer(response)
        else:
            taker.end(lambda error: pending.answer(response) if error is None else pending.fail(error))

    def replied(self, number: int, reply: bytes) -> None:
        """Complete a call."""
        pending = self._take(number)
        assert isinstance(pending, LinkFuture)
        pending.answer(reply)

    def failed(self, number: int, error: Exception) -> None:
        """Fail a request, each of a bundle, or a call."""
        pending = self._take(number)
        taker = self._takers.pop(number, None)
        if isinstance(pending, LinkFuture):
            if taker is None:
                pending.fail(error)
            else:
                taker.end(lambda raised: pending.fail(raised or error))
        else:
            for each in pending:
                each.fail(error)

    def _number(self, future: LinkFuture[Any], *, bundled: bool) -> None:
        future.number = self.next
        if not bundled:
            self._asked[self.next] = future
        self.next += 1
        future.on_cancel = self._cancel

    def _deal_out(self, bundle: Bundle, answer: InferResponse) -> None:
        count = len(bundle)
        form = self._forms.single(answer.form, count)
        parts = [parts_of(tensor, count) for tensor in answer.data]
        for index, future in enumerate(bundle):
            future.answer(InferResponse(form, future.id, [part[index] for part in parts]))

    def _take(self, number: int) -> Bundle | LinkFuture[Any]:
        try:
            self.ended += 1
            return self._asked.pop(number)
        except KeyError:
            raise InvalidArgument(f"got an answer to {number}, expected one to what is pending") from None
