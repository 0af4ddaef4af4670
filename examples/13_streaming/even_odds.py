"""Even-odds: an even number is answered at once, an odd one later by somebody else.

Answers therefore come in another order than their questions. Both classes bound what is left for later:
the caller of a full server gets RESOURCE_EXHAUSTED here, or has to wait for its next question there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

from streaming_pb2 import Answer, Number

import yais


class Workers(yais.Resources):
    def __init__(self) -> None:
        self.later = yais.ThreadPool(1, name="later", max_queue=1000)


def answer(number: Number) -> Answer:
    return Answer(value=number.value, thread=threading.current_thread().name)


class EvenOdds(yais.StreamingContext[Number, Answer, Workers]):
    def on_request(self, number: Number, stream: yais.Stream[Answer]) -> None:
        # This thread serves every other call too, so `write` does not wait for room here: it says no.
        if number.value % 2 or not stream.write(answer(number)):
            self.resources.later.submit(self.answer_later, number, stream)

    def answer_later(self, number: Number, stream: yais.Stream[Answer]) -> None:
        # On a thread of ours `write` waits for room, but a caller that does not read must not hold up others.
        if not stream.write(answer(number), timeout=1.0):
            stream.fail(yais.ResourceExhausted("the caller does not take its answers"))

    def on_requests_done(self, stream: yais.Stream[Answer]) -> None:
        # Behind all the answers of this stream, since the pool has one thread.
        self.resources.later.submit(stream.finish)


class EvenOddsAsync(yais.StreamingContext[Number, Answer, Workers]):
    async def execute(self, numbers: AsyncIterator[Number]) -> AsyncIterator[Answer]:
        room = asyncio.Semaphore(1000)
        later: set[asyncio.Task[None]] = set()
        async for number in numbers:
            if number.value % 2 == 0:
                yield answer(number)
                continue
            await room.acquire()
            task = asyncio.create_task(self.answer_later(number, room))
            later.add(task)
            task.add_done_callback(later.discard)
        await asyncio.gather(*later)

    async def answer_later(self, number: Number, room: asyncio.Semaphore) -> None:
        await asyncio.sleep(0.01)
        await self.stream.awrite(answer(number))
        room.release()
