"""The yais server of the stream workloads, in one of the forms that their contexts may have."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import yais
from benchmarks.echo_messages import echo_messages

messages = echo_messages()


class Bidirectional(yais.BidirectionalContext[Any, Any, yais.Resources]):
    """One answer to each request."""

    def execute(self, request: Any) -> Any:
        """Echo."""
        return messages.EchoReply(text=request.text)


class Callbacks(yais.StreamingContext[Any, Any, yais.Resources]):
    """The same, in callbacks that write."""

    def on_request(self, request: Any, stream: yais.Stream[Any]) -> None:
        """Echo."""
        stream.write(messages.EchoReply(text=request.text))


class AsyncioEcho(yais.StreamingContext[Any, Any, yais.Resources]):
    """The same, as an asynchronous generator."""

    async def execute(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """Echo."""
        async for request in requests:
            yield messages.EchoReply(text=request.text)


class Generator(yais.ServerStreamingContext[Any, Any, yais.Resources]):
    """As many answers as the request says."""

    def execute(self, request: Any) -> Iterator[Any]:
        """Echo, many times."""
        for _ in range(int(request.text.partition(" ")[0])):
            yield messages.EchoReply(text=request.text)


class AsyncioGenerator(yais.ServerStreamingContext[Any, Any, yais.Resources]):
    """The same, as an asynchronous generator."""

    async def execute(self, request: Any) -> AsyncIterator[Any]:
        """Echo, many times."""
        for _ in range(int(request.text.partition(" ")[0])):
            yield messages.EchoReply(text=request.text)


FORMS: dict[str, tuple[type[Any], type[Any]]] = {
    "bidirectional": (Bidirectional, Generator),
    "callbacks": (Callbacks, Generator),
    "generator": (Bidirectional, Generator),
    "asyncio": (AsyncioEcho, AsyncioGenerator),
}


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--form", choices=FORMS, default="bidirectional")
    arguments = parser.parse_args()
    ping_pong, replies = FORMS[arguments.form]
    service = yais.Service("yais.benchmarks.Streams")
    for rpc, context in (("PingPong", ping_pong), ("Replies", replies)):
        service.register(
            rpc,
            context,
            deserialize=messages.EchoRequest.FromString,
            serialize=messages.EchoReply.SerializeToString,
        )
    server = yais.Server(f"127.0.0.1:{arguments.port}", reflection=False)
    server.add(service)
    server.start()
    print("ready", server.port, flush=True)
    server.run()


if __name__ == "__main__":
    main()
