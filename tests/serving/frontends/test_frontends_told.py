"""A change is answered when every frontend knows of it; by an engine's end, and links in one process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from link_pair import SOON
from onnx_models import EXAMPLES, table, write

from yais.core.future import Future
from yais.inference.request import InferResponse
from yais.protocol import kserve_pb2 as pb
from yais.repository.repository import ControlMode
from yais.serving.backend import Backend
from yais.serving.frontends import operations
from yais.serving.frontends.link import EngineLink
from yais.serving.frontends.link_server import FrontendLinks
from yais.serving.frontends.operations import Operations, Topic
from yais.serving.options import ServerOptions
from yais.serving.repository_host import RepositoryHost

LOAD = pb.RepositoryModelLoadRequest(model_name="later").SerializeToString()


class Frontend:
    """A frontend's end of a link, which can be held while it is told something."""

    def __init__(self) -> None:
        self.catalogue: Any = {}
        self.holding = threading.Event()
        self.free = threading.Event()
        self.free.set()
        self.link = EngineLink(told=self._told)

    def connect(self, connection: socket.socket) -> None:
        self.connection = connection.dup()  # the link's own is closed by the link
        self.link.connect(connection)

    def close(self) -> None:
        self.free.set()
        self.link.close(0)
        self.connection.close()

    def _told(self, topic: str, value: Any) -> None:
        if topic == Topic.CATALOGUE:
            if not self.free.is_set():
                self.holding.set()
                assert self.free.wait(SOON)
            self.catalogue = value

    def knows(self, model: str) -> bool:
        return (model, "1") in self.catalogue


@pytest.fixture
def frontends(tmp_path: Path) -> Iterator[list[Frontend]]:
    """Two frontends of an engine that may load the model `later`."""
    write(tmp_path, "later", table([1, 2]), "max_batch_size: 8")
    options = ServerOptions((EXAMPLES, tmp_path), control=ControlMode.EXPLICIT, metrics_port=None)
    with ExitStack() as stack:
        host = RepositoryHost(options)
        stack.callback(host.close, SOON)
        host.repository.load_all()
        backend = Backend(host.repository, options, memory=host.memory, stopping=lambda: False)
        stack.callback(backend.resources.close)

        def call(method: str, request: bytes, _headers: Any) -> Future[bytes]:
            return made.call(method, request)

        links = FrontendLinks(_no_requests, call)
        stack.callback(links.close, SOON)
        made = Operations(backend, links.push, links.sync)
        stack.callback(made.close, SOON)
        made.tell()
        both = [Frontend(), Frontend()]
        for number, frontend in enumerate(both):
            ours, theirs = socket.socketpair()
            links.add(number, theirs)
            frontend.connect(ours)
            stack.callback(frontend.close)
        for read in links.sync():  # what was told before they came
            read.result(SOON)
        yield both


def _no_requests(*_: Any, **__: Any) -> Future[InferResponse]:
    raise AssertionError("nobody asks for that")


def test_a_model_that_is_loaded_is_known_to_all_when_that_is_answered(frontends: list[Frontend]) -> None:
    one, other = frontends
    other.free.clear()
    loading = one.link.call("RepositoryModelLoad", LOAD)
    assert other.holding.wait(SOON)
    # What comes after the load on the same link is answered: the load waits, and nothing else does.
    assert one.link.call("ServerLive", b"").result(SOON)
    assert one.knows("later")
    assert not loading.done()
    other.free.set()
    loading.result(SOON)
    assert other.knows("later")


def test_a_frontend_that_is_gone_holds_up_nobody(frontends: list[Frontend]) -> None:
    one, other = frontends
    other.free.clear()
    loading = one.link.call("RepositoryModelLoad", LOAD)
    assert other.holding.wait(SOON)
    other.connection.shutdown(socket.SHUT_RDWR)
    loading.result(SOON)
    assert not other.knows("later")


def test_a_frontend_that_hangs_holds_up_nobody_for_long(
    frontends: list[Frontend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "_HEARING", 0.05)
    one, other = frontends
    other.free.clear()
    one.link.call("RepositoryModelLoad", LOAD).result(SOON)
    assert one.knows("later")
    assert not other.knows("later")
