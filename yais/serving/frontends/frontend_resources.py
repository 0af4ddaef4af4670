"""What is behind the front doors of a frontend process: the link to the engine process."""

from __future__ import annotations

import logging as logs
import pickle
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

from google.protobuf.message_factory import GetMessageClass

from yais.core.clock import Deadline
from yais.inference.layout import Signature
from yais.protocol.infer_request import InferMessage
from yais.rpc.context import Context
from yais.rpc.service import Service
from yais.serving.front_resources import FrontResources, ReplyT, RequestT
from yais.serving.frontends.catalogue import Catalogue, find_traits
from yais.serving.frontends.link import EngineLink
from yais.serving.frontends.operations import METRICS, SIGNATURE, Topic
from yais.serving.inference_service import OPERATION_CONTEXTS, SERVICE, operation
from yais.serving.log_settings import LogSettings, LogValue

__all__ = ["FrontendResources", "forward"]

_log = logs.getLogger("yais.serving")

_OWN = ("ServerLive", "ServerReady")
"""What a frontend answers itself, also without an engine process."""

_SOON = 10.0  # seconds for what the engine process answers at once

_DEAF = 10.0
"""Seconds that the engine process may not read before it counts as lost: more than it needs under any load,
and no more than probes of one process would bear. Our choice."""

_LETTING_GO = 2.0  # seconds for the link to end, when no call is left


class FrontendResources(FrontResources):
    """The models of another process.

    Parameters
    ----------
    logging
        Of this process; follows what clients tell the engine process.
    changed
        Called when it may have become ready, or not ready any more. From any thread.
    stopping, drain
        See `FrontResources`.

    Attributes
    ----------
    link
        To the engine process.
    """

    def __init__(
        self,
        logging: LogSettings,
        *,
        changed: Callable[[], None],
        stopping: Callable[[], bool],
        drain: Callable[[Deadline, threading.Event], bool],
    ) -> None:
        super().__init__(stopping=stopping, drain=drain)
        self._without = threading.Event()  # an engine process
        self._without.set()
        self._informed = threading.Event()  # of all that an engine process tells when it is connected
        self.link = EngineLink(told=self._told, lost=self._parted)
        self.infer = self.link.infer
        self._logging = logging
        self._changed = changed
        self._started = self._ready = self._lost = self._deaf = False
        self._catalogue: Catalogue = {}

    @property
    def ready(self) -> bool:
        """Whether the engine process takes inference requests, and this one as well."""
        return self._ready and not self._deaf and not self._stopping()

    @property
    def started(self) -> bool:
        """See `FrontResources`."""
        return self._started

    @property
    def lost(self) -> bool:
        """See `FrontResources`."""
        return self._lost or self._deaf

    def decoupled(self, model: str, version: str) -> bool:
        """See `FrontResources`."""
        traits = find_traits(self._catalogue, model, version)
        return traits is not None and traits.decoupled

    async def signature(self, model: str, version: str) -> Signature:
        """See `FrontResources`."""
        traits = find_traits(self._catalogue, model, version)
        if traits is not None:
            return traits.signature
        found: Signature = pickle.loads(await self.link.call(SIGNATURE, pickle.dumps((model, version))))
        return found

    async def perform(self, context: type[Context[RequestT, ReplyT, Any]], request: RequestT) -> ReplyT:
        """See `FrontResources`."""
        rpc = context.__name__.removesuffix("Context")
        reply: Any
        if rpc in _OWN:
            made = context()
            made.resources = self
            reply = made.execute(request)
        else:
            answer = await self.link.call(rpc, request.SerializeToString())
            reply = GetMessageClass(SERVICE.methods_by_name[rpc].output_type).FromString(answer)
        return cast(ReplyT, reply)

    def copies_much(self, message: InferMessage) -> bool:  # noqa: ARG002 - that is done elsewhere
        """See `FrontResources`."""
        return False

    def connect(self, connection: socket.socket) -> None:
        """Use a connection to an engine process; return when that has told how things are, or hangs.

        Raises
        ------
        FailedPrecondition
            There is one, which does not end.
        ResourceExhausted
            There is no shared memory.
        """
        self._without.wait(_SOON)  # that the engine process before has gone may not be known here yet
        self._without.clear()
        self._informed.clear()
        self.link.connect(connection)
        self._informed.wait(_SOON)

    def look(self) -> None:
        """Look whether the engine process still reads; call it about every second."""
        deaf = self.link.silence() > _DEAF
        if deaf != self._deaf:
            self._deaf = deaf
            _log.warning("the engine process %s", f"has not read for {_DEAF} s" if deaf else "reads again")
            self._changed()

    def metrics(self) -> str:
        """Return the metrics of the engine process as Prometheus' text. Raises `YaisError`."""
        return self.link.call(METRICS, b"").result(_SOON).decode()

    def close(self) -> None:
        """Let go of the engine process."""
        self.link.close(_LETTING_GO)

    def _told(self, topic: str, value: Any) -> None:
        match Topic(topic):
            case Topic.CATALOGUE:
                self._catalogue = value
            case Topic.HEADERS:
                self.link.headers = value
            case Topic.LOGGING:
                settings: Mapping[str, LogValue] = value
                self._logging.update(settings)
            case Topic.HEALTH:
                self._started, self._ready, self._lost = value
                self._informed.set()  # it comes last
                self._changed()

    def _parted(self) -> None:
        self._ready = self._lost = self._deaf = False  # another process comes, which may be better off
        self._without.set()
        self._informed.set()
        self._changed()


def forward(service: Service, rpc: str) -> None:
    """Register an RPC, to be served by the engine process but for the few that are answered here."""
    if rpc in _OWN:
        operation(service, rpc)
        return

    class Forwarded(Context[bytes, bytes, FrontendResources]):
        def execute(self, request: bytes) -> Any:
            return self.resources.link.call(rpc, request)

    service.register(rpc, Forwarded, contexts=OPERATION_CONTEXTS, deserialize=bytes, serialize=bytes)
