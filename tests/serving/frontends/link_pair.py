"""Both ends of a link in one process, with an engine that does what a test says."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from yais.core.clock import NEVER, Deadline, monotonic
from yais.core.dispatcher import set_current_dispatcher
from yais.core.future import Future
from yais.core.tensor import DataType, TensorSpec
from yais.inference.request import InferResponse, ResponseForm
from yais.protocol.infer_request import InferMessage, InputHeader, OutputHeader
from yais.rpc.metadata import Metadata
from yais.serving.frontends.link import EngineLink
from yais.serving.frontends.link_server import FrontendLinks

SOON = 60.0
"""Seconds after which a wait counts as lost."""

NAMES = [(DataType.FP32, "X"), (DataType.BYTES, "TEXT")]


class Call:
    """A call that has just arrived; see `yais.serving.caller.Caller`."""

    protocol = "GRPC"

    def __init__(self, deadline: Deadline = NEVER, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.accepted = monotonic()
        self.waited = 7
        self.deadline = deadline
        self.metadata = Metadata(headers)


class HttpCall(Call):
    """The same over HTTP."""

    protocol = "HTTP"


class Queue:
    """A dispatcher whose queue runs empty when it is told to."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Take what is to be called then."""
        self._callbacks.append(callback)

    def drain(self) -> None:
        """Run empty."""
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


@contextmanager
def dispatching() -> Iterator[Queue]:
    """Make this thread a dispatcher's while the block lasts."""
    dispatcher = Queue()
    set_current_dispatcher(dispatcher)
    try:
        yield dispatcher
    finally:
        set_current_dispatcher(None)


_X = InputHeader(TensorSpec("X", DataType.FP32, (1, 4)), {})
_Y = OutputHeader("Y", {})


def message(
    data: Any = b"0123456789abcdef", *, model: str = "m", id_: str = "", **fields: Any
) -> InferMessage:
    """Return a request for one FP32 input; the header is the same object each time."""
    return InferMessage(model, "", id_, inputs=[_X], outputs=[_Y], data=[data], **fields)


def shaped(datatype: DataType, shape: tuple[int, ...], data: Any, **parameters: Any) -> InferMessage:
    """Return a request for one input of any kind."""
    return InferMessage(
        "m", inputs=[InputHeader(TensorSpec("X", datatype, shape), parameters)], data=[data], repeats=False
    )


_FORM = ResponseForm("m", "1", (TensorSpec("Y", DataType.UINT8, (-1,)),))
_FORM_OF_BYTES = ResponseForm("m", "1", (TensorSpec("Y", DataType.BYTES, (-1,)),))


def echo(request: InferMessage, _caller: Any, **_: Any) -> Future[InferResponse]:
    """Answer with the contents of the inputs."""
    future: Future[InferResponse] = Future()
    (data,) = request.data
    if isinstance(data, np.ndarray):
        future.set_result(InferResponse(_FORM_OF_BYTES, request.id, [data]))
    else:
        future.set_result(InferResponse(_FORM, request.id, [memoryview(data or b"")]))
    return future


class Engine:
    """Takes requests, and answers when it is told to."""

    def __init__(self) -> None:
        self.taken: queue.Queue[tuple[InferMessage, Any, Future[InferResponse], Any]] = queue.Queue()

    def infer(
        self, request: InferMessage, caller: Any, *, respond: Any = None, decoupled: str = ""
    ) -> Future[InferResponse]:
        """Take a request."""
        future: Future[InferResponse] = Future()
        self.taken.put((request, caller, future, respond))
        return future

    def next(self) -> tuple[InferMessage, Any, Future[InferResponse], Any]:
        """Return the next request, its caller, its future and what takes its responses."""
        return self.taken.get(timeout=SOON)


def response(data: bytes, id_: str = "") -> InferResponse:
    """Return a response with one output."""
    return InferResponse(_FORM, id_, [memoryview(data)])


def no_call(method: str, request: bytes, metadata: Any) -> Future[bytes]:
    """Echo what is called."""
    future: Future[bytes] = Future()
    future.set_result(method.encode() + b":" + request)
    return future


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that is soon so."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.001)


def descriptors() -> int:
    """Return how many file descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def mappings() -> int:
    """Return how many pieces of memory of links are mapped."""
    return Path("/proc/self/maps").read_text().count("memfd:yais-link")


@contextmanager
def linked(
    infer: Any = echo, call: Any = no_call, **options: Any
) -> Iterator[tuple[EngineLink, FrontendLinks]]:
    """Connect two ends, and close them."""
    told = options.pop("told", lambda _topic, _value: None)
    ends = {key: options.pop(key) for key in ("bundles", "gone") if key in options}
    links = FrontendLinks(infer, call, **ends)
    link = EngineLink(told=told, **options)
    ours, theirs = socket.socketpair()
    try:
        links.add(0, theirs)
        link.connect(ours)
        yield link, links
    finally:
        link.close(0)
        assert links.close(SOON)
        assert not [each.name for each in threading.enumerate() if each.name in {"frontends", "engine-link"}]
