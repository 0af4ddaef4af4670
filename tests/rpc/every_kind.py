"""A server with an RPC of every kind, whose answers are whatever a probe finds in the code that serves it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from echoing import SOON

import yais

SERVICE = "tests.Every"
MOUNTED = "tests.Mounted"

Probe = Callable[[Any], bytes]
"""Takes the context of a call, yais' or grpcio's."""

MANY = 40
"""Answers of the streams that end by themselves: more than wait to be sent at once."""

CONTEXTS = (
    "Unary",
    "Future",
    "Coroutine",
    "ServerStreaming",
    "AsyncServerStreaming",
    "Batching",
    "AsyncBatching",
    "Streaming",
    "AsyncCallbacks",
    "AsyncStreaming",
    "Bidirectional",
    "AsyncBidirectional",
)
SERVICERS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
PATHS = {kind: f"/{SERVICE}/{kind}" for kind in CONTEXTS} | {kind: f"/{MOUNTED}/{kind}" for kind in SERVICERS}
"""The method of each kind."""


class Every:
    """Calls an RPC of any kind."""

    def __init__(self, server: yais.Server, channel: grpc.Channel) -> None:
        self.server = server
        self.channel = channel

    def begin(self, kind: str, metadata: Any = None) -> Any:
        """Begin a call with one request, which is the way of all kinds on the wire."""
        method = self.channel.stream_stream(PATHS.get(kind, kind))
        return method(iter([b"x"]), timeout=SOON, metadata=metadata)

    def call(self, kind: str, metadata: Any = None) -> set[bytes]:
        """Call, and return the different answers there were."""
        return set(self.begin(kind, metadata))

    def fail(self, kind: str, metadata: Any = None) -> Any:
        """Call what must fail; return the call, which knows the status."""
        call = self.begin(kind, metadata)
        try:
            answers = list(call)
        except grpc.RpcError:
            return call
        raise AssertionError(f"{kind} was answered with {answers}")


class _Resources(yais.Resources):
    workers: yais.ThreadPool

    def open(self) -> None:
        self.workers = yais.ThreadPool(1, name="every")

    def close(self) -> None:
        self.workers.close(SOON)


@contextmanager
def every_kind(probe: Probe, *interceptors: yais.Interceptor) -> Iterator[Every]:
    """Serve every kind while the block lasts."""
    service = yais.Service(SERVICE)
    for kind in CONTEXTS:
        context = _contexts(probe)[kind]
        service.register(kind, context, contexts=4, deserialize=bytes, serialize=bytes)
    server = yais.Server("127.0.0.1:0", resources=_Resources(), interceptors=interceptors, grace=SOON)
    server.add(service)
    server.add_servicer(_add, _servicer(probe))
    own_connection = [("grpc.use_local_subchannel_pool", 1)]
    with server, grpc.insecure_channel(f"127.0.0.1:{server.port}", options=own_connection) as channel:
        yield Every(server, channel)


def _contexts(probe: Probe) -> dict[str, type]:
    class Unary(yais.Context):
        def execute(self, request):
            return probe(self)

    class Future(yais.Context):
        def execute(self, request):
            return self.resources.workers.submit(contextvars.copy_context().run, probe, self)

    class Coroutine(yais.Context):
        async def execute(self, request):
            await asyncio.sleep(0)
            return probe(self)

    class ServerStreaming(yais.ServerStreamingContext):
        def execute(self, request):
            for _ in range(MANY):
                yield probe(self)

    class AsyncServerStreaming(yais.ServerStreamingContext):
        async def execute(self, request):
            for _ in range(MANY):
                await asyncio.sleep(0)
                yield probe(self)

    class Batching(yais.BatchingContext):
        def execute(self, requests):
            return [probe(self) for _ in requests]

    class AsyncBatching(yais.BatchingContext):
        async def execute(self, requests):
            await asyncio.sleep(0)
            return [probe(self) for _ in requests]

    class Streaming(yais.StreamingContext):
        def on_open(self, stream):
            stream.write(probe(self))

        def on_request(self, request, stream):
            stream.write(probe(self))

        def on_requests_done(self, stream):
            stream.write(probe(self))
            stream.finish()

    class AsyncCallbacks(yais.StreamingContext):
        async def on_request(self, request, stream):
            await asyncio.sleep(0)
            await stream.awrite(probe(self))

    class AsyncStreaming(yais.StreamingContext):
        async def execute(self, requests):
            async for _ in requests:
                yield probe(self)

    class Bidirectional(yais.BidirectionalContext):
        def execute(self, request):
            return probe(self)

    class AsyncBidirectional(yais.BidirectionalContext):
        async def execute(self, request):
            await asyncio.sleep(0)
            return probe(self)

    return {name: each for name, each in locals().items() if name in CONTEXTS}


def _servicer(probe: Probe) -> dict[str, Any]:
    def unary_unary(request, context):
        return probe(context)

    def unary_stream(request, context):
        for _ in range(MANY):
            yield probe(context)

    def stream_unary(requests, context):
        (answer,) = [probe(context) for _ in requests]
        return answer

    def stream_stream(requests, context):
        for _ in requests:
            yield probe(context)

    return {name: each for name, each in locals().items() if name in SERVICERS}


def _add(servicer: dict[str, Any], server: Any) -> None:
    handlers = {
        name: getattr(grpc, f"{name}_rpc_method_handler")(behaviour) for name, behaviour in servicer.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(MOUNTED, handlers),))
