"""Which of grpcio's clients to build `yais.rpc.client` on: its futures, grpc.aio, or the completion queue.

    PYTHONPATH=. python benchmarks/client.py [--seconds 2] [--rounds 3]

Each way calls the same two servers: a unary echo, and a stream echo that does as little
as a server can, so that the client is the limit. They run on CPU 0, the client on CPU 1. "threads" means
that the loop is driven from outside, as a client has to that is usable blocking; "native" that all of the
program is coroutines. The figures are the medians of the rounds, the ratios to the best public way.

grpcio 1.85.1, CPython 3.11, 2 cores that were not quiet, `--seconds 1 --rounds 3`; calls or messages per
second, ratio, CPU time in microseconds of the client for each:

    32 unary calls     grpcio futures     9883  0.71  97      32 streams  grpcio iterators  10194  0.68   98
                       grpc.aio, threads 10822  0.78  92                  grpc.aio, threads  5682  0.38  176
                       grpc.aio, native  13953  1.00  67                  grpc.aio, native  15055  1.00   65
                       yais              12791  0.92  77                  yais, callbacks   29008  1.93   34
                                                                          yais, threads     11645  0.77   78
                                                                          yais, await       18618  1.24   50

One at a time they are alike within the noise. Chosen is the completion queue: of the ways that can be used
from any thread it is the fastest at unary calls in flight, streams take half the CPU time and no thread each,
and it needs no loop that could be somebody else's, or closed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yais
from yais.errors import Code
from yais.rpc.client import Channels, ClientStreaming, ClientUnary
from yais.rpc.completion_queue import CompletionQueue, CoreServer, ServerCall

import grpc  # isort: skip - after yais, which sets what gRPC reads on its first import

SAY = "/bench.Echo/Say"
STREAM = "/bench.Echo/Stream"
MESSAGE = b"hello, world"
LIMIT = 60.0
"""Seconds after which anything counts as lost."""

T = TypeVar("T")


class Echo(yais.Context[bytes, bytes, yais.Resources]):
    """Answers with the request."""

    def execute(self, request: bytes) -> bytes:
        """Return it."""
        return request


def serve_unary() -> None:
    """Serve the echo until killed; print the port."""
    service = yais.Service("bench.Echo")
    service.register("Say", Echo, contexts=100, deserialize=bytes, serialize=bytes)
    server = yais.Server("127.0.0.1:0")
    server.add(service)
    server.start()
    print(server.port, flush=True)
    threading.Event().wait()


def serve_stream() -> None:
    """Serve the stream echo until killed; print the port."""
    events = CompletionQueue()
    server = CoreServer((), [events])
    port = server.add_port("127.0.0.1:0")
    server.register_method(STREAM)
    server.start()

    def accept(event: Any) -> None:
        call = ServerCall(event)
        server.request(STREAM, events, accept)
        call.receive_message(lambda message: answer(call, message, ()))

    def answer(call: ServerCall, message: bytes | None, headers: tuple[()] | None) -> None:
        if message is None:
            call.finish(Code.OK, "", (), headers=headers, done=lambda _event: None)
            return
        call.exchange(message, headers=headers, done=lambda _ok, following: answer(call, following, None))

    server.request(STREAM, events, accept)
    print(port, flush=True)
    while True:
        events.poll(None)


@dataclass
class Run:
    """One measurement: what counts as work until its time is over."""

    seconds: float
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.begun, self.cpu = time.perf_counter(), time.process_time()
        self.end = self.begun + self.seconds

    def more(self) -> bool:
        """Whether to go on."""
        return time.perf_counter() < self.end

    def rate(self, count: int) -> tuple[float, float]:
        """Return the work per second, and the client's CPU time for each in microseconds."""
        elapsed, cpu = time.perf_counter() - self.begun, time.process_time() - self.cpu
        return count / elapsed, cpu / count * 1e6


def in_flight(begin: Callable[[Callable[[object], None]], object], calls: int, run: Run) -> int:
    """Keep calls in flight; `begin` gets what is to be called when its call is over. Returns how many."""
    left, over, lock, count = calls, threading.Event(), threading.Lock(), 0

    def done(_result: object) -> None:
        nonlocal left, count
        with lock:
            count += 1
        if run.more():
            begin(done)
            return
        with lock:
            left -= 1
            if not left:
                over.set()

    for _ in range(calls):
        begin(done)
    assert over.wait(LIMIT)
    return count


def on_threads(work: Callable[[], int], threads: int) -> int:
    """Run `work` on each thread; return the sum."""
    counts: list[int] = []
    running = [threading.Thread(target=lambda: counts.append(work())) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(LIMIT)
    return sum(counts)


class Loop:
    """An asyncio loop on a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(LIMIT)

    def close(self) -> None:
        """End the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(LIMIT)
        self.loop.close()


@contextlib.contextmanager
def aio_method(port: int, method: str) -> Iterator[tuple[Loop, Any]]:
    """Yield a loop and a grpc.aio method on it."""
    loop = Loop()

    async def connect() -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(f"127.0.0.1:{port}")

    channel = loop.run(connect())
    try:
        yield loop, channel.unary_unary(method) if method == SAY else channel.stream_stream(method)
    finally:
        loop.run(channel.close())
        loop.close()


def unary_futures(port: int, calls: int, run: Run) -> int:
    """Call with grpcio's futures."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        say: Any = channel.unary_unary(SAY)
        if calls == 1:
            return one_by_one(lambda: say(MESSAGE, timeout=LIMIT), run)
        return in_flight(lambda done: say.future(MESSAGE, timeout=LIMIT).add_done_callback(done), calls, run)


def unary_aio_threads(port: int, calls: int, run: Run) -> int:
    """Call with grpc.aio from outside its loop."""
    with aio_method(port, SAY) as (loop, say):

        async def call() -> Any:
            return await say(MESSAGE, timeout=LIMIT)

        if calls == 1:
            return one_by_one(lambda: loop.run(call()), run)
        submit = asyncio.run_coroutine_threadsafe
        return in_flight(lambda done: submit(call(), loop.loop).add_done_callback(done), calls, run)


def unary_aio_native(port: int, calls: int, run: Run) -> int:
    """Call with grpc.aio on its loop."""

    async def work() -> int:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            say: Any = channel.unary_unary(SAY)
            return await together(lambda: say(MESSAGE, timeout=LIMIT), calls, run)

    return asyncio.run(work())


def unary_yais(port: int, calls: int, run: Run) -> int:
    """Call with the completion queue."""
    with Channels(f"127.0.0.1:{port}") as channels:
        say: ClientUnary[bytes, bytes] = ClientUnary(channels, SAY, timeout=LIMIT)
        if calls == 1:
            return one_by_one(lambda: say.call(MESSAGE), run)
        return in_flight(lambda done: say.submit(MESSAGE).add_done_callback(done), calls, run)


def one_by_one(call: Callable[[], object], run: Run) -> int:
    """Call and wait, again and again."""
    count = 0
    while run.more():
        call()
        count += 1
    return count


async def together(call: Callable[[], Awaitable[object]], tasks: int, run: Run) -> int:
    """Await calls in several tasks."""

    async def task() -> int:
        count = 0
        while run.more():
            await call()
            count += 1
        return count

    return sum(await asyncio.gather(*(task() for _ in range(tasks))))


def stream_iterators(port: int, streams: int, run: Run) -> int:
    """Ping-pong with grpcio's request iterators: two threads a stream."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        method: Any = channel.stream_stream(STREAM)

        def work() -> int:
            count, requests = 0, queue.SimpleQueue[bytes | None]()
            requests.put(MESSAGE)
            for _ in method(iter(requests.get, None), timeout=LIMIT):
                count += 1
                requests.put(MESSAGE if run.more() else None)
            return count

        return on_threads(work, streams)


def stream_aio_threads(port: int, streams: int, run: Run) -> int:
    """Ping-pong with grpc.aio from outside its loop: a thread a stream."""
    with aio_method(port, STREAM) as (loop, method):

        async def opened() -> Any:
            return method(timeout=LIMIT)

        def work() -> int:
            call = loop.run(opened())

            def exchange() -> None:
                loop.run(call.write(MESSAGE))
                loop.run(call.read())

            count = one_by_one(exchange, run)
            loop.run(call.done_writing())
            return count

        return on_threads(work, streams)


def stream_aio_native(port: int, streams: int, run: Run) -> int:
    """Ping-pong with grpc.aio on its loop."""

    async def stream(method: Any) -> int:
        call = method(timeout=LIMIT)

        async def exchange() -> None:
            await call.write(MESSAGE)
            await call.read()

        count = await together(exchange, 1, run)
        await call.done_writing()
        return count

    async def work() -> int:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            method: Any = channel.stream_stream(STREAM)
            return sum(await asyncio.gather(*(stream(method) for _ in range(streams))))

    return asyncio.run(work())


def stream_yais_callbacks(port: int, streams: int, run: Run) -> int:
    """Ping-pong with the completion queue and callbacks: one thread in all."""
    with Channels(f"127.0.0.1:{port}") as channels:
        method: ClientStreaming[bytes, bytes] = ClientStreaming(channels, STREAM, timeout=LIMIT)
        count = 0

        def begin() -> Any:
            def answer(message: bytes) -> None:
                nonlocal count
                count += 1
                if run.more():
                    stream.write(message)
                else:
                    stream.done()

            stream = method.open(on_reply=answer)
            stream.write(MESSAGE)
            return stream

        for stream in [begin() for _ in range(streams)]:
            stream.status.result(LIMIT).check()
        return count


def stream_yais_threads(port: int, streams: int, run: Run) -> int:
    """Ping-pong with the completion queue, blocking: a thread a stream."""
    with Channels(f"127.0.0.1:{port}") as channels:
        method: ClientStreaming[bytes, bytes] = ClientStreaming(channels, STREAM, timeout=LIMIT)

        def work() -> int:
            with method.open() as stream:
                return one_by_one(lambda: stream.write(MESSAGE) and next(stream), run)

        return on_threads(work, streams)


def stream_yais_await(port: int, streams: int, run: Run) -> int:
    """Ping-pong with the completion queue in coroutines."""
    with Channels(f"127.0.0.1:{port}") as channels:
        method: ClientStreaming[bytes, bytes] = ClientStreaming(channels, STREAM, timeout=LIMIT)

        async def stream() -> int:
            async with method.open() as opened:

                async def exchange() -> None:
                    await opened.awrite(MESSAGE)
                    await anext(opened)

                return await together(exchange, 1, run)

        async def work() -> int:
            return sum(await asyncio.gather(*(stream() for _ in range(streams))))

        return asyncio.run(work())


Way = Callable[[int, int, Run], int]
UNARY: dict[str, Way] = {
    "grpcio futures": unary_futures,
    "grpc.aio, threads": unary_aio_threads,
    "grpc.aio, native": unary_aio_native,
    "yais": unary_yais,
}
STREAMS: dict[str, Way] = {
    "grpcio iterators": stream_iterators,
    "grpc.aio, threads": stream_aio_threads,
    "grpc.aio, native": stream_aio_native,
    "yais, callbacks": stream_yais_callbacks,
    "yais, threads": stream_yais_threads,
    "yais, await": stream_yais_await,
}


@contextlib.contextmanager
def server(kind: str) -> Iterator[int]:
    """Run a server of this file on CPU 0; yield its port."""
    command = [sys.executable, str(Path(__file__)), "--serve", kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            os.sched_setaffinity(process.pid, {0})
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def compare(ways: dict[str, Way], port: int, width: int, seconds: float, rounds: int) -> None:
    """Measure all ways in turn, and print a line for each."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            run = Run(seconds)
            found[name].append(run.rate(way(port, width, run)))
    median = {
        name: tuple(statistics.median(column) for column in zip(*results, strict=True))
        for name, results in found.items()
    }
    best = max(rate for name, (rate, _) in median.items() if not name.startswith("yais"))
    for name, (rate, cpu) in median.items():
        print(f"{width:6}  {name:18}  {rate:8.0f}  {rate / best:5.2f}  {cpu:6.1f}", flush=True)


def main() -> None:
    """Measure, or serve."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--serve", choices=("unary", "stream"), help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.serve:
        (serve_unary if arguments.serve == "unary" else serve_stream)()
    os.sched_setaffinity(0, {1})
    for kind, ways in (("unary", UNARY), ("stream", STREAMS)):
        print(f"{kind}\n at once  way                      /s  ratio  CPU us")
        with server(kind) as port:
            for width in (1, 32):
                compare(ways, port, width, arguments.seconds, arguments.rounds)


if __name__ == "__main__":
    main()
