"""A stream that always has something to send leaves its executor time for others."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from echoing import SOON

import yais
from yais.testing import Served, serving

CLIENT = """
import sys
import grpc
channel = grpc.insecure_channel("127.0.0.1:" + sys.argv[1])
if sys.argv[2] == "say":
    channel.unary_unary("/test.Greedy/Say")(b"")
    sys.exit()
call = channel.unary_stream("/test.Greedy/Endless")(b"")
next(call)
if sys.argv[2] == "read":
    for reply in call:
        pass
call.cancel()
print("cancelled", flush=True)
sys.stdin.read()
"""

FEW = 20_000
"""Replies that may be made until the thread looks at its sockets; without that it was 170,000 and more."""


class Endless(yais.ServerStreamingContext[bytes, bytes, yais.Resources]):
    made = 0
    started = threading.Event()
    ended = threading.Event()

    def execute(self, request):
        self.started.set()
        while True:
            type(self).made += 1
            yield b"x" * 16

    def on_finish(self):
        self.ended.set()


class Say(yais.Context[bytes, bytes, yais.Resources]):
    def execute(self, request):
        return request


@pytest.fixture
def served():
    Endless.started.clear()
    Endless.ended.clear()
    service = yais.Service("test.Greedy")
    service.register("Endless", Endless, deserialize=bytes, serialize=bytes)
    service.register("Say", Say, deserialize=bytes, serialize=bytes)
    with serving(service, grace=0.0) as served:
        yield served


def client(served: Served, action: str) -> list[str]:
    """Return the command of a client in a process of its own, which takes no time from the server."""
    return [sys.executable, "-c", CLIENT, str(served.port), action]


def test_a_cancellation_is_seen(served):
    with subprocess.Popen(
        client(served, "cancel"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "cancelled\n"
        made = Endless.made
        assert Endless.ended.wait(SOON)
        assert Endless.made - made < FEW
        process.communicate()


def test_a_new_call_is_served(served):
    with subprocess.Popen(client(served, "read")) as reader:
        try:
            assert Endless.started.wait(SOON)
            subprocess.run(client(served, "say"), check=True, timeout=SOON)
        finally:
            reader.kill()
    assert Endless.ended.wait(SOON)
