"""Services: which context class serves which RPC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from yais.rpc.context import Context
from yais.rpc.method import Method

__all__ = ["Service"]


class Service:
    """The RPCs of one protobuf service.

    Parameters
    ----------
    descriptor
        The service, as generated code has it: `echo_pb2.DESCRIPTOR.services_by_name["Echo"]`.

    Examples
    --------
    >>> service = Service(DESCRIPTOR.services_by_name["Echo"])
    >>> service.register("Say", Echo, contexts=100)
    """

    def __init__(self, descriptor: ServiceDescriptor) -> None:
        self.descriptor = descriptor
        self.methods: dict[str, Method] = {}

    def __repr__(self) -> str:
        return f"<Service {self.descriptor.full_name}: {', '.join(self.methods) or 'nothing registered'}>"

    @property
    def name(self) -> str:
        """Full name, "package.Service"."""
        return self.descriptor.full_name

    def register(
        self,
        rpc: str,
        context: type[Context[Any, Any, Any]],
        *,
        contexts: int = 100,
        deserialize: Callable[[bytes], Any] | None = None,
        serialize: Callable[[Any], bytes] | None = None,
    ) -> None:
        """Serve an RPC with a context class.

        Parameters
        ----------
        rpc
            Name of the RPC in the service, such as "Say".
        context
            The class; an instance is made for each call.
        contexts
            RPCs of this kind in flight at most, per executor thread. Further calls wait in gRPC core,
            which holds up to 1,000 of them for at most 30 s (its defaults).
        deserialize, serialize
            Take the place of protobuf's own parsing and writing, for messages that are read or written
            another way. What `deserialize` raises ends the RPC: a `YaisError` with its status, anything
            else with INTERNAL.

        Raises
        ------
        ValueError
            The service has no such RPC, it is registered already, or it is not a unary one.
        TypeError
            `context` is not a subclass of `Context`.
        """
        method = self.descriptor.methods_by_name.get(rpc)
        if method is None:
            known = ", ".join(self.descriptor.methods_by_name)
            raise ValueError(f"got rpc {rpc!r}, expected one of {self.name}: {known}")
        if rpc in self.methods:
            raise ValueError(f"{self.name}.{rpc} is registered already")
        if not (isinstance(context, type) and issubclass(context, Context)):
            raise TypeError(f"got {context!r}, expected a subclass of yais.Context")
        if method.client_streaming or method.server_streaming:
            raise ValueError(f"{self.name}.{rpc} is a streaming RPC, and {context.__name__} a unary context")
        if contexts < 1:
            raise ValueError(f"got contexts={contexts}, expected at least 1")
        self.methods[rpc] = self._method(method, context, contexts, deserialize, serialize)

    def _method(
        self,
        method: MethodDescriptor,
        context: type[Context[Any, Any, Any]],
        contexts: int,
        deserialize: Callable[[bytes], Any] | None,
        serialize: Callable[[Any], bytes] | None,
    ) -> Method:
        reply_class = GetMessageClass(method.output_type)
        return Method(
            path=f"/{self.name}/{method.name}",
            context=context,
            contexts=contexts,
            deserialize=deserialize or GetMessageClass(method.input_type).FromString,
            serialize=serialize or reply_class.SerializeToString,
            reply_type=reply_class if serialize is None else None,
        )
