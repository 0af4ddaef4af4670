"""Inference requests on a frontend, from when they come in until they are sent."""

from __future__ import annotations

from typing import Any

from yais.inference.request import InferResponse, Respond
from yais.protocol.infer_request import InferMessage
from yais.rpc.completion_queue import MetadataItem
from yais.serving.caller import Caller
from yais.serving.frontends.link_future import LinkFuture
from yais.serving.frontends.link_messages import RequestForm

__all__ = ["OutgoingRequest"]


class OutgoingRequest:
    """One request, with all that is sent of it: its caller is not asked later.

    Attributes
    ----------
    form
        What tells its form from others.
    """

    __slots__ = (
        "accepted",
        "deadline",
        "decoupled",
        "form",
        "future",
        "headers",
        "http",
        "message",
        "respond",
        "waited",
    )

    def __init__(
        self,
        message: InferMessage,
        caller: Caller,
        future: LinkFuture[InferResponse],
        *,
        headers: bool,
        respond: Respond | None,
        decoupled: str,
    ) -> None:
        self.message = message
        self.future = future
        self.respond = respond
        self.decoupled = decoupled
        self.accepted = caller.accepted
        self.waited = caller.waited
        self.deadline = caller.deadline.at
        self.http = caller.protocol == "HTTP"
        # As plain tuples: grpcio's own cannot be pickled.
        self.headers: tuple[MetadataItem, ...] = (
            tuple([(key, value) for key, value in caller.metadata.pairs()]) if headers else ()
        )
        self.form = (
            message.model_name,
            message.model_version,
            decoupled,
            self.http,
            respond is None,
            tuple(message.inputs),
            tuple(message.outputs),
        )

    @property
    def plain(self) -> bool:
        """Whether it is nothing but contents of the sizes that its form says: only then it may be bundled."""
        if self.headers:
            return False
        for header, data in zip(self.message.inputs, self.message.data, strict=True):
            # A loop, as this is asked of every request: a generator costs half as much again.
            if type(data) not in _PLAIN or len(data) != header.spec.nbytes:  # type: ignore[arg-type]
                return False
        return True

    def request_form(self) -> RequestForm:
        """Return its form as it is sent."""
        message = self.message
        return RequestForm(
            message.model_name,
            message.model_version,
            message.inputs,
            message.outputs,
            message.repeats,
            self.http,
            self.respond is not None,
            self.decoupled,
            [i for i, each in enumerate(message.inputs) if not each.spec.datatype.size],
        )


_PLAIN: set[Any] = {bytes, memoryview}
