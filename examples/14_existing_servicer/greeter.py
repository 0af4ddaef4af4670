"""An ordinary grpcio servicer, as it was before anybody thought of yais."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from greeter_pb2 import HelloReply, HelloRequest
from greeter_pb2_grpc import GreeterServicer


class Greeter(GreeterServicer):
    def SayHello(self, request: HelloRequest, context: grpc.ServicerContext) -> HelloReply:  # noqa: N802
        if not request.name:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "got no name")
        return HelloReply(text=f"Hello, {request.name}!")

    def SayHelloOften(  # noqa: N802
        self, request: HelloRequest, context: grpc.ServicerContext
    ) -> Iterator[HelloReply]:
        for number in range(1, request.times + 1):
            if not context.is_active():
                return
            yield HelloReply(text=f"Hello, {request.name}! ({number})")
