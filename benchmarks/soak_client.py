"""One client process of `soak.py`: streams of every kind over some connections, each answer checked.

It prints what came of them as a line of JSON, now and then and when SIGTERM has told it to end; it may be
killed instead. With `--probe N` it only sees whether each RPC can serve N streams at the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import itertools
import json
import os
import random
import signal
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import grpc.aio

import yais
from benchmarks.soak_server import (
    CONTEXTS,
    EARLY,
    ONE_REPLY,
    SERVICE,
    Asyncio,
    Bidirectional,
    BidirectionalAsyncio,
    BidirectionalPool,
    Callbacks,
    CallbacksAsyncio,
    Detached,
    Early,
    answer,
    replies,
)

PATIENCE = 60.0
"""Seconds after which a stream that was left alone has hung."""

INCREMENTAL = (
    Bidirectional,
    BidirectionalPool,
    BidirectionalAsyncio,
    Callbacks,
    Detached,
    CallbacksAsyncio,
    Asyncio,
)
"""Those that answer each request while the stream goes on."""


def expected(context: type[Any], requests: Sequence[bytes]) -> list[bytes]:
    """Return the answers to the requests of a stream."""
    if issubclass(context, yais.ServerStreamingContext):
        return list(replies(requests[0]))
    totals = list(
        itertools.accumulate(requests, lambda total, request: zlib.crc32(request, total), initial=0)
    )
    if context in ONE_REPLY:
        return [answer(totals[-1], b"")]
    answers = [answer(total, request) for total, request in zip(totals[1:], requests, strict=True)]
    return answers[:EARLY] if issubclass(context, Early) else answers


_WRITTEN_TOO_LATE = "Internal error from Core"
"""What grpc.aio's client makes of a message that is written when the call has just ended."""


class _End(NamedTuple):
    """The status of a stream, and what its client did that may be the reason."""

    code: grpc.StatusCode
    details: str
    cancelled: bool
    hurried: bool


class Client:
    """Opens one stream after another, and counts what came of them."""

    def __init__(self, channels: Sequence[grpc.aio.Channel], seed: int, pause: float) -> None:
        self._channels = channels
        self._pause = pause
        self._random = random.Random(seed)
        self.counts: collections.Counter[str] = collections.Counter()
        self.kinds: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.ending = False

    async def run(self, index: int) -> None:
        """Keep one stream open after another, on one channel."""
        channel = self._channels[index % len(self._channels)]
        while not self.ending:
            context = self._random.choice(CONTEXTS)
            try:
                await self._one(channel, context)
            except Exception as error:
                self.wrong.append(f"{context.__name__}: {error!r}")
            self.kinds[context.__name__] += 1

    async def _one(self, channel: grpc.aio.Channel, context: type[Any]) -> None:
        """One stream: to its end, cancelled on the way, or with a deadline that passes."""
        size = self._random.choice((16, 64, 256, 8192))
        if issubclass(context, yais.ServerStreamingContext):
            requests = [b"%d " % self._random.randrange(30) + os.urandom(size)]
        elif issubclass(context, yais.Context):
            requests = [os.urandom(size)]
        else:
            requests = [os.urandom(size) for _ in range(self._random.randrange(20))]
        answers = expected(context, requests)
        fate = self._random.random()
        timeout = self._random.random() * 0.5 if fate < 0.05 else PATIENCE
        stop = self._random.randrange(len(answers) + 1) if 0.05 <= fate < 0.15 else None
        call: Any = channel.stream_stream(f"/{SERVICE}/{context.__name__}")(timeout=timeout)
        writing = asyncio.ensure_future(self._write(call, requests))
        got: list[bytes] = []
        try:
            while stop is None or len(got) < stop:
                reply = await call.read()
                if reply is grpc.aio.EOF:
                    break
                got.append(reply)
                if issubclass(context, yais.ServerStreamingContext):
                    await self._think()
        except (grpc.aio.AioRpcError, asyncio.CancelledError):
            pass
        if stop is not None:
            call.cancel()
        await writing
        end = _End(await call.code(), await call.details(), stop is not None, timeout < PATIENCE)
        self._judge(context, got, answers, end)

    async def _write(self, call: Any, requests: Sequence[bytes]) -> None:
        try:
            for request in requests:
                await call.write(request)
                await self._think()
            await call.done_writing()
        except (
            grpc.aio.AioRpcError,
            grpc.aio.InternalError,
            asyncio.InvalidStateError,
            asyncio.CancelledError,
        ):
            pass  # the status says why

    async def _think(self) -> None:
        if not self.ending:
            await asyncio.sleep(self._random.random() * 2 * self._pause)

    def _judge(self, context: type[Any], got: list[bytes], answers: list[bytes], end: _End) -> None:
        name = context.__name__
        if got != answers[: len(got)]:
            self.wrong.append(f"{name}: wrong answers")
        elif end.code is grpc.StatusCode.OK:
            if got != answers and not end.cancelled:
                self.wrong.append(f"{name}: {len(got)} answers of {len(answers)}, and OK")
        elif not (
            (end.code is grpc.StatusCode.CANCELLED and end.cancelled)
            or (end.code is grpc.StatusCode.DEADLINE_EXCEEDED and end.hurried)
            or (end.details == _WRITTEN_TOO_LATE and (end.cancelled or end.hurried or context is Early))
        ):
            self.wrong.append(f"{name}: {end}, {len(got)} answers of {len(answers)}")
        self.counts["written too late" if end.details == _WRITTEN_TOO_LATE else end.code.name] += 1
        self.counts["answers"] += len(got)

    def report(self) -> None:
        """Print what came of all streams so far."""
        print(json.dumps({"counts": self.counts, "kinds": self.kinds, "wrong": self.wrong[:20]}), flush=True)


async def load(client: Client, streams: int) -> None:
    """Run until SIGTERM."""
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    running = [asyncio.ensure_future(client.run(index)) for index in range(streams)]
    while not end.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(end.wait(), 0.25)
        client.report()
    client.ending = True
    await asyncio.gather(*running)
    client.report()


async def probe(channels: Sequence[grpc.aio.Channel], streams: int, client: Client) -> None:
    """See whether every context of an RPC can still serve."""
    for context in INCREMENTAL:
        method = f"/{SERVICE}/{context.__name__}"
        calls: list[Any] = [
            channels[n % len(channels)].stream_stream(method)(timeout=PATIENCE) for n in range(streams)
        ]
        try:
            for call in calls:
                await call.write(b"")
            client.counts["answers"] += sum([await call.read() == answer(0, b"") for call in calls])
            for call in calls:
                await call.done_writing()
            client.counts["OK"] += sum([await call.code() is grpc.StatusCode.OK for call in calls])
        except grpc.aio.AioRpcError as error:
            client.wrong.append(f"{context.__name__}: {error!r}")
    for count in (client.counts["answers"], client.counts["OK"]):
        if count != streams * len(INCREMENTAL):
            client.wrong.append(f"got {count} streams served at once, expected {streams * len(INCREMENTAL)}")
    client.report()


async def main() -> None:
    """Connect and do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True, help="HOST:PORT of the server")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between messages, on average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--probe", type=int)
    arguments = parser.parse_args()
    # Channels share a connection unless each has a pool of its own.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [
        grpc.aio.insecure_channel(arguments.target, options=options) for _ in range(arguments.connections)
    ]
    client = Client(channels, arguments.seed, arguments.pause)
    if arguments.probe:
        await probe(channels, arguments.probe, client)
    else:
        await load(client, arguments.streams)
    for channel in channels:
        await channel.close()


if __name__ == "__main__":
    asyncio.run(main())
    sys.stdout.flush()
    # All streams have ended. While the interpreter ends, grpc.aio before 1.75 may wait for ever for a thread
    # of its own that is gone already (github.com/grpc/grpc/pull/40447; with 1.66.2 twice in 200 ends).
    os._exit(0)
