"""Ping-pong: one answer to each request, until the server has had enough."""

from __future__ import annotations

from collections.abc import AsyncIterator

from streaming_pb2 import Ball

import yais

STAMINA = 10
"""Returns of one stream."""


class PingPong(yais.BidirectionalContext[Ball, Ball, yais.Resources]):
    returned = 0  # An instance serves one stream: this is the state of that stream.

    def execute(self, ball: Ball) -> Ball:
        self.returned += 1
        if self.returned == STAMINA:
            self.finish()  # this answer is the last
        return Ball(hits=ball.hits + 1)


class PingPongAsync(yais.StreamingContext[Ball, Ball, yais.Resources]):
    async def execute(self, balls: AsyncIterator[Ball]) -> AsyncIterator[Ball]:
        returned = 0
        async for ball in balls:
            yield Ball(hits=ball.hits + 1)
            returned += 1
            if returned == STAMINA:
                return
