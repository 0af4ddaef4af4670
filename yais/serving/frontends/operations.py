"""What the engine process does for frontends beside inference: other RPCs, and telling what changes."""

from __future__ import annotations

import asyncio
import enum
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from yais.core.future import Future
from yais.core.loop_thread import LoopThread
from yais.errors import Internal, Unimplemented, status_of
from yais.inference.request import InferResponse
from yais.rpc.metadata import Metadata
from yais.serving.backend import Backend
from yais.serving.frontends.catalogue import catalogue_of
from yais.serving.inference_service import OPERATIONS, SERVICE

__all__ = ["METRICS", "SIGNATURE", "Operations", "Topic"]

METRICS = "Metrics"
"""What frontends call for the metrics as text; no RPC."""

SIGNATURE = "Signature"
"""What they call for the signature of a model: name and version, pickled; no RPC."""

_HEARING = 5.0
"""Seconds that a change waits for frontends to know of it: far more than they need, unless one is stopped.
Our choice."""

_CHANGING = frozenset(("RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting", "LogSettings"))


class Topic(enum.StrEnum):
    """What the engine process tells its frontends."""

    CATALOGUE = "catalogue"
    """The models that take requests, see `Catalogue`."""
    HEADERS = "headers"
    """Whether the headers of callers are to be sent along."""
    LOGGING = "logging"
    """What is logged: settings that can be changed, and their values."""
    HEALTH = "health"
    """Whether it is `started`, `ready` and `lost`; the last, when the others are known."""


class Operations:
    """Serves calls of frontends, and tells them what changes. Thread-safe.

    Parameters
    ----------
    backend
        What serves them.
    push
        Tells a topic and its value to all frontends, and to those that come later.
    sync
        See `FrontendLinks.sync`.
    """

    def __init__(
        self,
        backend: Backend,
        push: Callable[[str, Any], None],
        sync: Callable[[], Sequence[Future[None]]],
    ) -> None:
        self._backend = backend
        self._push = push
        self._sync = sync
        self._loop = LoopThread("yais-operations")
        self._lock = threading.Lock()
        self._told: dict[Topic, Any] = {}

    def __repr__(self) -> str:
        return f"<Operations of {self._backend!r}>"

    def call(self, method: str, request: bytes, _metadata: Metadata | None = None) -> Future[bytes]:
        """Serve a call on a thread of its own; return at once. Errors are the future's."""
        return self._loop.spawn(self._answer(method, request))

    def submit(self, infer: Callable[[], Future[InferResponse]]) -> Future[InferResponse]:
        """Submit a request on a thread of its own, since that takes long; return at once."""
        return self._loop.spawn(_submitted(infer))

    def tell(self) -> None:
        """Tell the frontends what has changed since the last time."""
        resources = self._backend.resources
        # Models are told by what stands for them: a catalogue is costly to make and to compare.
        entries = resources.models.entries
        keys = [(each.name, each.version, each.state, each.loaded.key) for each in entries if each.loaded]
        settings = resources.logging.values()
        settings.pop("log_file")
        headers = resources.tracer.active or resources.forward is not None
        with self._lock:
            self._tell(Topic.CATALOGUE, keys, lambda: catalogue_of(entries))
            self._tell(Topic.HEADERS, headers)
            self._tell(Topic.LOGGING, settings)
            self._tell(Topic.HEALTH, (resources.started, resources.ready, resources.lost))

    def close(self, timeout: float) -> bool:
        """Cancel the calls that are being served; return whether they ended within `timeout` seconds."""
        return self._loop.close(timeout)

    def _tell(self, topic: Topic, value: Any, make: Callable[[], Any] | None = None) -> None:
        if topic not in self._told or self._told[topic] != value:
            self._told[topic] = value
            self._push(topic, value if make is None else make())

    async def _answer(self, method: str, request: bytes) -> bytes:
        if method == METRICS:
            return (await asyncio.to_thread(self._backend.metrics)).encode()
        if method == SIGNATURE:
            name, version = pickle.loads(request)
            return pickle.dumps(await self._backend.resources.signature(name, version))
        return await self._served(method, request)

    async def _served(self, rpc: str, request: bytes) -> bytes:
        descriptors: Mapping[str, MethodDescriptor] = SERVICE.methods_by_name
        if rpc not in OPERATIONS:
            raise Unimplemented(f"got the operation '{rpc}', expected one of {', '.join(OPERATIONS)}")
        try:
            message = GetMessageClass(descriptors[rpc].input_type).FromString(request)
        except DecodeError as error:
            text = f"/{SERVICE.full_name}/{rpc}: cannot decode the request: {status_of(error)[1]}"
            raise Internal(text) from None
        try:
            reply = await self._backend.resources.perform(OPERATIONS[rpc], message)
        finally:
            if rpc in _CHANGING:
                # Before the answer: who asks next, whichever frontend, is answered by what is so now.
                self.tell()
                await self._heard()
        answer: bytes = reply.SerializeToString()
        return answer

    async def _heard(self) -> None:
        """Wait until all frontends know what they were told; not for long for one that hangs."""
        heard = [asyncio.wrap_future(each) for each in self._sync()]
        if heard:
            await asyncio.wait(heard, timeout=_HEARING)


async def _submitted(infer: Callable[[], Future[InferResponse]]) -> InferResponse:
    return await (await asyncio.to_thread(infer))
