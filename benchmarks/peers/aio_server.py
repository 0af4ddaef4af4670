"""Bare grpc.aio on uvloop; the model is so short that it runs on the event loop: a hop would cost more."""

from __future__ import annotations

from typing import Any

import grpc.aio
import uvloop
from tritonclient.grpc import service_pb2_grpc

from benchmarks.echo_messages import echo_messages
from benchmarks.peers.handler import KServe, generic_handler, stream_handlers
from benchmarks.peers.options import Options, parse


class AsyncKServe(KServe):
    """The hot call as a coroutine; grpc.aio runs the others, which are plain methods, on a thread pool."""

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Add and subtract the two inputs."""
        return super().ModelInfer(request, context)


def add_echo(server: grpc.aio.Server) -> None:
    """Mount the echo service."""
    messages = echo_messages()

    async def say(request: Any, context: Any) -> Any:  # noqa: ARG001
        return messages.EchoReply(text=request.text)

    handler = generic_handler("yais.examples.echo.Echo", "Say", say, messages.EchoRequest, messages.EchoReply)
    server.add_generic_rpc_handlers((handler,))


def add_streams(server: grpc.aio.Server) -> None:
    """Mount the service of the stream workloads."""
    messages = echo_messages()

    async def ping_pong(requests: Any, context: Any) -> Any:  # noqa: ARG001
        async for request in requests:
            yield messages.EchoReply(text=request.text)

    async def replies(request: Any, context: Any) -> Any:  # noqa: ARG001
        for _ in range(int(request.text.partition(" ")[0])):
            yield messages.EchoReply(text=request.text)

    server.add_generic_rpc_handlers((stream_handlers(ping_pong, replies, messages),))


async def main(options: Options) -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    if options.service == "kserve":
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(AsyncKServe(options.model), server)
    elif options.service == "echo":
        add_echo(server)
    else:
        add_streams(server)
    port = server.add_insecure_port(f"127.0.0.1:{options.port}")
    await server.start()
    print("ready", port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(parse()))
