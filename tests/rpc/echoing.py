"""A server of one context class, and a client of it: what most tests of the RPC framework begin with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from echo_pb2 import DESCRIPTOR, EchoReply, EchoRequest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import yais
from yais.testing import serving

SOON = 20.0
"""Seconds after which a wait counts as lost."""

DEADLINE = 2.0
"""Seconds of a call that is to be under way when its deadline passes, however busy the machine is."""

SAY = "/yais.examples.echo.Echo/Say"


class Client:
    """Calls `Say`, by its text."""

    def __init__(self, channel: grpc.Channel, server: yais.Server) -> None:
        self.channel = channel
        self.server = server
        self.method = channel.unary_unary(SAY, EchoRequest.SerializeToString, EchoReply.FromString)

    def begin(self, text: str, *, timeout: float | None = SOON, metadata: Any = None) -> Any:
        """Start a call; return its future."""
        return self.method.future(EchoRequest(text=text), timeout=timeout, metadata=metadata)

    def say(self, text: str, *, timeout: float | None = SOON, metadata: Any = None) -> str:
        """Call and return the text of the reply."""
        return self.method(EchoRequest(text=text), timeout=timeout, metadata=metadata).text

    def fail(self, text: str, **options: Any) -> grpc.Call:
        """Call what must fail; return the call, which knows the status."""
        with pytest.raises(grpc.RpcError) as caught:
            self.say(text, **options)
        return caught.value

    def status(self, text: str) -> tuple[grpc.StatusCode, str]:
        """Call what must fail; return code and message."""
        error = self.fail(text)
        return error.code(), error.details()

    def pass_by(self) -> None:
        """Return once the server has seen all that was sent on the connection before."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        stub.Check(health_pb2.HealthCheckRequest(), timeout=SOON)

    def idle(self) -> None:
        """Wait until no context is busy: a slot is free some time after the caller has the answer."""
        eventually(lambda: self.server.in_flight == 0)


def echo_service(
    context: type[yais.Context[Any, Any, Any]], *, contexts: int = 4, **options: Any
) -> yais.Service:
    """Make a service in which `context` serves `Say`."""
    service = yais.Service(DESCRIPTOR.services_by_name["Echo"])
    service.register("Say", context, contexts=contexts, **options)
    return service


@contextmanager
def echoing(
    context: type[yais.Context[Any, Any, Any]], *, contexts: int = 4, **server_options: Any
) -> Iterator[Client]:
    """Serve `Say` with `context` while the block lasts."""
    with serving(echo_service(context, contexts=contexts), **server_options) as served:
        yield Client(served.channel, served.server)


def eventually(holds: Callable[[], object]) -> None:
    """Wait for what no event announces."""
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def on_thread(function: Callable[[], object]) -> threading.Thread:
    """Run `function` on a thread of its own."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


class Held(yais.Context[EchoRequest, EchoReply, yais.Resources]):
    """Answers at once, except to what begins with "hold": that waits for `finish`.

    Class attributes are per subclass: make one in each test with `Held.fresh()`.
    """

    started: Held.Arrivals
    futures: dict[str, yais.Future[EchoReply]]

    class Arrivals:
        """What has been executed so far, in order."""

        def __init__(self) -> None:
            self.texts: list[str] = []
            self.contexts: dict[str, Held] = {}
            self._changed = threading.Condition()

        def add(self, context: Held, text: str) -> None:
            with self._changed:
                self.texts.append(text)
                self.contexts[text] = context
                self._changed.notify_all()

        def wait(self, *texts: str) -> None:
            with self._changed:
                assert self._changed.wait_for(lambda: set(texts) <= set(self.texts), SOON), self.texts

    @classmethod
    def fresh(cls, future: type[yais.Future[EchoReply]] = yais.Future) -> type[Held]:
        """Make a class with attributes of its own."""
        own = {"started": cls.Arrivals(), "futures": {}, "make_future": staticmethod(future)}
        return type("OwnHeld", (cls,), own)

    def execute(self, request: EchoRequest) -> Any:
        """Answer, or return a future and keep it."""
        text = request.text
        answer: Any = EchoReply(text=text)
        if text.startswith("hold"):
            answer = self.futures[text] = self.make_future()
        self.started.add(self, text)
        return answer

    @classmethod
    def finish(cls, text: str) -> None:
        """Let a held call be answered."""
        cls.futures[text].set_result(EchoReply(text=text))
