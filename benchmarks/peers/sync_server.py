"""Bare grpcio, the synchronous server with a pool of eight threads, or of one for each stream."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from tritonclient.grpc import service_pb2_grpc

from benchmarks.echo_messages import echo_messages
from benchmarks.peers.handler import KServe, generic_handler, stream_handlers
from benchmarks.peers.options import Options, parse

THREADS = 8
STREAMS = 40  # a stream keeps its thread


def add_echo(server: grpc.Server) -> None:
    """Mount the echo service."""
    messages = echo_messages()

    def say(request: Any, context: Any) -> Any:  # noqa: ARG001
        return messages.EchoReply(text=request.text)

    handler = generic_handler("yais.examples.echo.Echo", "Say", say, messages.EchoRequest, messages.EchoReply)
    server.add_generic_rpc_handlers((handler,))


def add_streams(server: grpc.Server) -> None:
    """Mount the service of the stream workloads."""
    messages = echo_messages()

    def ping_pong(requests: Any, context: Any) -> Any:  # noqa: ARG001
        for request in requests:
            yield messages.EchoReply(text=request.text)

    def replies(request: Any, context: Any) -> Any:  # noqa: ARG001
        for _ in range(int(request.text.partition(" ")[0])):
            yield messages.EchoReply(text=request.text)

    server.add_generic_rpc_handlers((stream_handlers(ping_pong, replies, messages),))


def main(options: Options) -> None:
    """Serve until killed."""
    server = grpc.server(ThreadPoolExecutor(STREAMS if options.service == "streams" else THREADS))
    if options.service == "kserve":
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(KServe(options.model), server)
    elif options.service == "echo":
        add_echo(server)
    else:
        add_streams(server)
    port = server.add_insecure_port(f"127.0.0.1:{options.port}")
    server.start()
    print("ready", port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(parse())
