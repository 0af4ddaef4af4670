"""Several requests at once, their answers in the order of the requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from yais.client.infer_call import InferAnswer, InferCall
from yais.client.transport import Transport
from yais.core.future import Future
from yais.errors import Code, DeadlineExceeded, error_of

__all__ = ["GRACE", "answered_in_order"]

GRACE = 5.0
"""Seconds to wait for an answer beyond the time that a transport keeps itself."""


def answered_in_order(
    transport: Transport, calls: Iterable[InferCall], in_flight: int, timeout: float
) -> Iterator[Sequence[InferAnswer]]:
    """Send requests and yield what answers each: one answer, or those of a stream.

    Parameters
    ----------
    calls
        Taken one by one, as there is room for them.
    in_flight
        Requests under way at most.
    timeout
        Seconds to wait for an answer. For a transport that keeps time itself, that and `GRACE`.

    Raises
    ------
    YaisError
        The first failure, in the order of the requests. Those behind it go on unheard.
    Exception
        What `calls` raises, once the requests before it are answered.
    """
    waiting: deque[Future[Any]] = deque()
    trouble: Exception | None = None
    coming = iter(calls)
    while True:
        try:
            waiting.append(_sent(transport, next(coming)))
        except StopIteration:
            break
        except Exception as error:
            trouble = error
            break
        if len(waiting) == in_flight:
            yield transport.answers(_reply(waiting.popleft(), timeout))
    while waiting:
        yield transport.answers(_reply(waiting.popleft(), timeout))
    if trouble is not None:
        raise trouble


def _sent(transport: Transport, call: InferCall) -> Future[Any]:
    future: Future[Any] = Future()

    def done(code: Code, message: str, reply: Any) -> None:
        if code is Code.OK:
            future.set_result(reply)
        else:
            future.set_exception(error_of(code, message))

    transport.send(transport.encode(call), done)
    return future


def _reply(future: Future[Any], timeout: float) -> Any:
    try:
        return future.result(timeout)
    except DeadlineExceeded:
        raise
    except TimeoutError:
        raise DeadlineExceeded(f"no answer within {timeout:g} s") from None
