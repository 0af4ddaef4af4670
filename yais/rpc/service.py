"""Services: which context class serves which RPC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from yais.rpc.base_context import BaseContext
from yais.rpc.batching_context import BatchingContext
from yais.rpc.bidirectional_context import BidirectionalContext
from yais.rpc.context import Context
from yais.rpc.method import Method
from yais.rpc.server_streaming_context import ServerStreamingContext
from yais.rpc.stream_context import StreamContext
from yais.rpc.streaming_context import StreamingContext

__all__ = ["Service"]

# For each class of contexts, the RPCs it can serve: (many requests, many replies). The first is what a
# service without a descriptor takes it for.
_KINDS: dict[type[BaseContext[Any, Any, Any]], tuple[tuple[bool, bool], ...]] = {
    Context: ((False, False),),
    ServerStreamingContext: ((False, True),),
    BatchingContext: ((True, True), (True, False)),
    StreamingContext: ((True, True), (True, False)),
    BidirectionalContext: ((True, True),),
}


class Service:
    """The RPCs of one gRPC service.

    Parameters
    ----------
    descriptor
        The service, as protobuf's generated code has it: `echo_pb2.DESCRIPTOR.services_by_name["Echo"]`. Or,
        for messages that are not protobuf's, its full name: then every `register` needs `deserialize` and
        `serialize`.

    Examples
    --------
    >>> service = Service(DESCRIPTOR.services_by_name["Echo"])
    >>> service.register("Say", Echo, contexts=100)
    """

    def __init__(self, descriptor: ServiceDescriptor | str) -> None:
        self.descriptor = None if isinstance(descriptor, str) else descriptor
        self.name = descriptor if isinstance(descriptor, str) else descriptor.full_name
        self.methods: dict[str, Method] = {}

    def __repr__(self) -> str:
        return f"<Service {self.name}: {', '.join(self.methods) or 'nothing registered'}>"

    def register(
        self,
        rpc: str,
        context: type[BaseContext[Any, Any, Any]],
        *,
        contexts: int = 100,
        executor: str | None = None,
        deserialize: Callable[[bytes], Any] | None = None,
        serialize: Callable[[Any], bytes] | None = None,
        reply_stream: bool = True,
    ) -> None:
        """Serve an RPC with a context class.

        Parameters
        ----------
        rpc
            Name of the RPC in the service, such as "Say".
        context
            The class, of the kind that fits the RPC; an instance is made for each call.
        contexts
            RPCs of this kind in flight at most, per executor thread. Further calls wait in gRPC core,
            which holds up to 3,000 of them for at most 30 s (`Transport`).
        executor
            Name of the executor to serve it (`Server.add_executor`); the server's default one without.
        deserialize, serialize
            Take the place of protobuf's own parsing and writing, for messages that are read or written
            another way; `memoryview` and `bytes`, for example, leave them as they are. What `deserialize`
            raises ends the RPC: a `YaisError` with its status, anything else with INTERNAL.
        reply_stream
            For a service without a descriptor and a context class that can serve RPCs with one reply and
            with many: whether there are many. Otherwise it has no effect.

        Raises
        ------
        ValueError
            The service has no such RPC, it is registered already, or it is of another kind; or a number is
            too small.
        TypeError
            `context` is no context class, or a service without a descriptor got no codec.
        """
        if rpc in self.methods:
            raise ValueError(f"{self.name}.{rpc} is registered already")
        if contexts < 1:
            raise ValueError(f"got contexts={contexts}, expected at least 1")
        kinds = _kinds(context)
        if issubclass(context, StreamContext) and context.max_unsent < 1:
            raise ValueError(f"{context.__name__}: got max_unsent={context.max_unsent}, expected at least 1")
        reply_type: type | None = None
        if self.descriptor is None:
            if deserialize is None or serialize is None:
                raise TypeError(f"{self.name}.{rpc}: got no codec, expected deserialize and serialize")
            kind = kinds[0] if reply_stream else kinds[-1]
        else:
            method = self.descriptor.methods_by_name.get(rpc)
            if method is None:
                known = ", ".join(self.descriptor.methods_by_name)
                raise ValueError(f"got rpc {rpc!r}, expected one of {self.name}: {known}")
            kind = (method.client_streaming, method.server_streaming)
            if kind not in kinds:
                fitting = " or ".join(each.__name__ for each, served in _KINDS.items() if kind in served)
                raise ValueError(
                    f"got {context.__name__}, a {_base(context).__name__}, for {self.name}.{rpc}, "
                    f"expected a {fitting} for {_described(kind)}"
                )
            deserialize = deserialize or GetMessageClass(method.input_type).FromString
            if serialize is None:
                reply_type = GetMessageClass(method.output_type)
                serialize = reply_type.SerializeToString
        self.methods[rpc] = Method(
            path=f"/{self.name}/{rpc}",
            context=context,
            contexts=contexts,
            executor=executor,
            request_stream=kind[0],
            reply_stream=kind[1],
            lockstep=issubclass(context, BidirectionalContext),
            deserialize=deserialize,
            serialize=serialize,
            reply_type=reply_type,
        )


def _base(context: type) -> type[BaseContext[Any, Any, Any]]:
    return next(base for base in _KINDS if issubclass(context, base))


def _kinds(context: type) -> tuple[tuple[bool, bool], ...]:
    if isinstance(context, type) and issubclass(context, tuple(_KINDS)):
        return _KINDS[_base(context)]
    names = ", ".join(kind.__name__ for kind in _KINDS)
    raise TypeError(f"got {context!r}, expected a subclass of {names}")


def _described(kind: tuple[bool, bool]) -> str:
    requests, replies = ("a stream of" if many else "one" for many in kind)
    return (
        f"{requests} {'requests' if kind[0] else 'request'} and {replies} {'replies' if kind[1] else 'reply'}"
    )
