"""The server of `soak.py`: contexts of every kind, in each of their forms. One process.

A line on stdin asks for its state, which is one line of JSON on stdout; the end of stdin ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import gc
import json
import logging
import os
import sys
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import yais

SERVICE = "yais.soak.Soak"
EARLY = 3
"""Requests after which `Early` answers no more."""

Requests = AsyncIterator[bytes]


def answer(total: int, request: bytes) -> bytes:
    """Return the answer to a request: the sum over all requests of the stream so far, and the request."""
    return b"%08x" % total + request


def replies(request: bytes) -> Iterator[bytes]:
    """Return the answers to the one request of a stream of answers; its first word says how many."""
    return (b"%d " % index + request for index in range(int(request.partition(b" ")[0])))


class Pools(yais.Resources):
    """Threads for what does not run on the executor's."""

    def open(self) -> None:
        """Start them."""
        self.workers = yais.ThreadPool(8, name="worker")

    def close(self) -> None:
        """End them."""
        self.workers.shutdown()


class Unary(yais.Context[bytes, bytes, Pools]):
    """Answers on the executor's thread."""

    def execute(self, request: bytes) -> Any:
        """Answer."""
        return answer(zlib.crc32(request), request)


class UnaryPool(Unary):
    """Answers on a pool."""

    def execute(self, request: bytes) -> Any:
        """Answer later."""
        return self.resources.workers.submit(super().execute, request)


class UnaryAsyncio(Unary):
    """Answers on the loop."""

    async def execute(self, request: bytes) -> Any:
        """Answer later."""
        await asyncio.sleep(0)
        return super().execute(request)


class Bidirectional(yais.BidirectionalContext[bytes, bytes, Pools]):
    """Answers each request on the executor's thread."""

    total = 0

    def execute(self, request: bytes) -> Any:
        """Answer."""
        return self.next(request)

    def next(self, request: bytes) -> bytes:
        """Return the next answer."""
        self.total = zlib.crc32(request, self.total)
        return answer(self.total, request)


class BidirectionalPool(Bidirectional):
    """Answers each on a pool."""

    def execute(self, request: bytes) -> Any:
        """Answer later."""
        return self.resources.workers.submit(self.next, request)


class BidirectionalAsyncio(Bidirectional):
    """Answers each on the loop."""

    async def execute(self, request: bytes) -> Any:
        """Answer later."""
        await asyncio.sleep(0)
        return self.next(request)


class Early(Bidirectional):
    """Says when it has answered enough."""

    count = 0

    def execute(self, request: bytes) -> Any:
        """Answer, for the last time if there were `EARLY`."""
        self.count += 1
        if self.count == EARLY:
            self.finish()
        return self.next(request)


class Callbacks(yais.StreamingContext[bytes, bytes, Pools]):
    """Writes in its callback."""

    total = 0

    def on_request(self, request: bytes, stream: yais.Stream[bytes]) -> Any:
        """Answer; there is room, since no request is delivered without."""
        self.total = zlib.crc32(request, self.total)
        if not stream.write(answer(self.total, request)) and stream.connected:
            raise AssertionError("no room in an open stream")


class Detached(yais.StreamingContext[bytes, bytes, Pools]):
    """Writes from a pool, after its callback has returned, one task at a time."""

    total = 0

    def on_open(self, stream: yais.Stream[bytes]) -> Any:  # noqa: ARG002
        """Begin."""
        self.lock = threading.Lock()
        self.waiting: collections.deque[bytes] = collections.deque()
        self.working = self.done = False

    def on_request(self, request: bytes, stream: yais.Stream[bytes]) -> Any:
        """Leave it to the pool."""
        with self.lock:
            self.waiting.append(request)
            if not self.working:
                self.working = True
                self.resources.workers.submit(self.work, stream)

    def on_requests_done(self, stream: yais.Stream[bytes]) -> Any:
        """Finish now or when the pool has answered all."""
        with self.lock:
            self.done = True
            if not self.working:
                stream.finish()

    def work(self, stream: yais.Stream[bytes]) -> None:
        """Answer what is there."""
        while True:
            with self.lock:
                if not self.waiting:
                    self.working = False
                    if self.done:
                        stream.finish()
                    return
                request = self.waiting.popleft()
            self.total = zlib.crc32(request, self.total)
            stream.write(answer(self.total, request))


class CallbacksAsyncio(yais.StreamingContext[bytes, bytes, Pools]):
    """Writes in a coroutine callback."""

    total = 0

    async def on_request(self, request: bytes, stream: yais.Stream[bytes]) -> Any:
        """Answer."""
        self.total = zlib.crc32(request, self.total)
        await stream.awrite(answer(self.total, request))


class Asyncio(yais.StreamingContext[bytes, bytes, Pools]):
    """Is an asynchronous generator."""

    async def execute(self, requests: Requests) -> AsyncIterator[bytes]:
        """Answer."""
        total = 0
        async for request in requests:
            total = zlib.crc32(request, total)
            yield answer(total, request)


class CollectAsyncio(yais.StreamingContext[bytes, bytes, Pools]):
    """Is a coroutine with one answer."""

    async def execute(self, requests: Requests) -> bytes:
        """Answer once."""
        total = 0
        async for request in requests:
            total = zlib.crc32(request, total)
        return answer(total, b"")


class Batching(yais.BatchingContext[bytes, bytes, Pools]):
    """Answers all at the end, on the executor's thread."""

    def execute(self, requests: list[bytes]) -> Any:
        """Answer."""
        total = 0
        result = []
        for request in requests:
            total = zlib.crc32(request, total)
            result.append(answer(total, request))
        return result


class BatchingPool(Batching):
    """Answers all at the end, on a pool, and looks at each item there, too."""

    def on_item(self, request: bytes) -> Any:
        """Look at it."""
        return self.resources.workers.submit(zlib.crc32, request)

    def execute(self, requests: list[bytes]) -> Any:
        """Answer later."""
        return self.resources.workers.submit(super().execute, requests)


class BatchingAsyncio(Batching):
    """Answers all at the end, on the loop."""

    async def on_item(self, request: bytes) -> Any:  # noqa: ARG002
        """Look at it."""
        await asyncio.sleep(0)

    async def execute(self, requests: list[bytes]) -> Any:
        """Answer later."""
        await asyncio.sleep(0)
        return super().execute(requests)


class Collect(yais.BatchingContext[bytes, bytes, Pools]):
    """Has one answer to all requests."""

    def execute(self, requests: list[bytes]) -> Any:
        """Answer once."""
        return answer(zlib.crc32(b"".join(requests)), b"")


class Replies(yais.ServerStreamingContext[bytes, bytes, Pools]):
    """Is a generator."""

    def execute(self, request: bytes) -> Any:
        """Answer many times."""
        yield from replies(request)


class RepliesAsyncio(yais.ServerStreamingContext[bytes, bytes, Pools]):
    """Is an asynchronous generator."""

    async def execute(self, request: bytes) -> Any:
        """Answer many times."""
        for each in replies(request):
            yield each


class RepliesPool(yais.ServerStreamingContext[bytes, bytes, Pools]):
    """Writes from a pool."""

    def execute(self, request: bytes) -> Any:
        """Answer many times, later."""
        return self.resources.workers.submit(self.work, request)

    def work(self, request: bytes) -> None:
        """Answer as long as somebody listens."""
        for each in replies(request):
            if not self.stream.write(each):
                return


ONE_REPLY = (CollectAsyncio, Collect)
CONTEXTS: tuple[type[Any], ...] = (
    *(Unary, UnaryPool, UnaryAsyncio),
    *(Bidirectional, BidirectionalPool, BidirectionalAsyncio, Early),
    *(Callbacks, Detached, CallbacksAsyncio, Asyncio, CollectAsyncio),
    *(Batching, BatchingPool, BatchingAsyncio, Collect),
    *(Replies, RepliesAsyncio, RepliesPool),
)


def living() -> int:
    """Return how many contexts and streams exist."""
    return sum(isinstance(each, (yais.Stream, *CONTEXTS)) for each in gc.get_objects())


def resident() -> float:
    """Return the memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def state(server: yais.Server, errors: Errors, *, thorough: bool) -> dict[str, Any]:
    """Return what may leak, and how much there is of it; `thorough` counts objects, too.

    `garbage` is the objects that only the garbage collector frees, `objects` those that it does not.
    """
    garbage = living() if thorough else 0
    if thorough:
        gc.collect()
    objects = living() if thorough else 0
    methods = server.statistics().methods
    return {
        "in_flight": server.in_flight,
        "calls": sum(method.calls for method in methods.values()),
        "busy": {path: method.in_flight for path, method in methods.items() if method.in_flight},
        "garbage": garbage - objects,
        "objects": objects,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "tasks": len(os.listdir("/proc/self/task")),
        "resident": resident(),
        "errors": errors.lines,
    }


class Errors(logging.Handler):
    """Keeps what is logged as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.lines.append(logging.Formatter().format(record))


def main() -> None:
    """Serve until the end of stdin."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contexts", type=int, default=100, help="of each RPC")
    parser.add_argument("--threads", type=int, default=1, help="of the executor")
    arguments = parser.parse_args()
    errors = Errors()
    logging.getLogger().addHandler(errors)
    service = yais.Service(SERVICE)
    for context in CONTEXTS:
        service.register(
            context.__name__,
            context,
            contexts=arguments.contexts,
            deserialize=bytes,
            serialize=bytes,
            reply_stream=context not in ONE_REPLY,
        )
    server = yais.Server("127.0.0.1:0", resources=Pools(), threads=arguments.threads, reflection=False)
    server.add(service)
    server.start()
    print(json.dumps({"port": server.port}), flush=True)
    for line in sys.stdin:
        print(json.dumps(state(server, errors, thorough=line == "thorough\n")), flush=True)
    clean = server.stop(5.0)
    print(json.dumps({"clean": clean, "errors": errors.lines}), flush=True)


if __name__ == "__main__":
    main()
