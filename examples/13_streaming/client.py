"""Plays ping-pong and even-odds: `python examples/13_streaming/client.py [--port 50051]`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable

from streaming_pb2 import DESCRIPTOR, Answer, Ball, Number

import yais
from yais.rpc.client import Channels, ClientStreaming

RPCS = DESCRIPTOR.services_by_name["Streaming"].methods_by_name


def ping_pong(channels: Channels, rpc: str) -> int:
    """Hit the ball back until the server has had enough; return how often it was hit."""
    play: ClientStreaming[Ball, Ball] = ClientStreaming(channels, RPCS[rpc], timeout=10.0)
    ball = Ball(hits=1)
    with play.open() as stream:
        stream.write(ball)
        for ball in stream:
            stream.write(Ball(hits=ball.hits + 1))
    return ball.hits


async def even_odds(channels: Channels, rpc: str, numbers: Iterable[int]) -> list[int]:
    """Ask for all numbers, and return them in the order of their answers."""
    ask: ClientStreaming[Number, Answer] = ClientStreaming(channels, RPCS[rpc], timeout=10.0)
    async with ask.open() as stream:

        async def write_all() -> None:
            for number in numbers:
                await stream.awrite(Number(value=number))
            stream.done()

        writing = asyncio.create_task(write_all())
        answers = [answer.value async for answer in stream]
        await writing
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=50051)
    arguments = parser.parse_args()

    numbers = range(10)
    with Channels(f"localhost:{arguments.port}") as channels:
        try:
            for rpc in "PingPong", "PingPongAsync":
                print(f"{rpc}: {ping_pong(channels, rpc)} hits")
            for rpc in "EvenOdds", "EvenOddsAsync":
                answers = asyncio.run(even_odds(channels, rpc, numbers))
                print(f"{rpc}:", *answers)
                if sorted(answers) != list(numbers):
                    sys.exit("an answer is missing")
        except yais.YaisError as error:
            sys.exit(f"{error.code.name}: {error}")


if __name__ == "__main__":
    main()
