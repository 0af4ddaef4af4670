"""Bare grpcio, the synchronous server with a thread pool of eight."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from tritonclient.grpc import service_pb2_grpc

from benchmarks.peers.handler import KServe, echo_messages, generic_handler
from benchmarks.peers.options import Options, parse

THREADS = 8


def add_echo(server: grpc.Server) -> None:
    """Mount the echo service."""
    messages = echo_messages()

    def say(request: Any, context: Any) -> Any:  # noqa: ARG001
        return messages.EchoReply(text=request.text)

    handler = generic_handler("yais.examples.echo.Echo", "Say", say, messages.EchoRequest, messages.EchoReply)
    server.add_generic_rpc_handlers((handler,))


def main(options: Options) -> None:
    """Serve until killed."""
    server = grpc.server(ThreadPoolExecutor(THREADS))
    if options.service == "kserve":
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(KServe(options.model), server)
    else:
        add_echo(server)
    port = server.add_insecure_port(f"127.0.0.1:{options.port}")
    server.start()
    print("ready", port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(parse())
