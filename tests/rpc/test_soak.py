"""A few seconds of everything at once; in the end the server is as good as new."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
import threading
import time

import grpc
import pytest
from echo_pb2 import EchoReply, EchoRequest
from echoing import SAY, SOON, Client, echoing, eventually, on_thread

import yais

CONTEXTS = 16
SECONDS = 3.0


class Pools(yais.Resources):
    def open(self):
        self.workers = yais.ThreadPool(4, name="worker")
        self.barrier = threading.Barrier(CONTEXTS)
        self.meeting = yais.ThreadPool(CONTEXTS, name="meeting")

    def close(self):
        self.workers.shutdown()
        self.meeting.shutdown()


class Anything(yais.Context[EchoRequest, EchoReply, Pools]):
    """Does what the first word says, and answers with the text."""

    def execute(self, request):
        self.trailing_metadata.append(("text", request.text.partition(" ")[2] or "none"))
        answer = EchoReply(text=request.text)
        match request.text.partition(" ")[0]:
            case "now":
                return answer
            case "pool":
                return self.resources.workers.submit(lambda: answer)
            case "coroutine":
                return self.later(answer)
            case "fail":
                raise yais.NotFound(request.text)
            case "fail-later":
                return self.resources.workers.submit(self.fail, request.text)
            case "never":
                return yais.Future()
            case "never-coroutine":
                return self.never()
            case "meet":
                return self.resources.meeting.submit(self.meet, answer)
        raise AssertionError(request.text)

    def fail(self, text):
        raise yais.Aborted(text)

    def meet(self, answer):
        self.resources.barrier.wait(SOON)
        return answer

    async def later(self, answer):
        await asyncio.sleep(random.random() * 0.002)
        return answer

    async def never(self):
        await asyncio.sleep(3600)


class Mixer:
    """One client thread: calls at random and checks each outcome."""

    def __init__(self, client: Client, seed: int) -> None:
        self._client = client
        self._random = random.Random(seed)
        self._raw = client.channel.unary_unary(SAY)
        self._stream = client.channel.stream_unary(SAY)
        self._number = seed * 1_000_000
        self.counts: dict[str, int] = {}

    def run(self, until: float) -> None:
        kinds = [getattr(self, name) for name in dir(type(self)) if name.startswith("do_")]
        while time.monotonic() < until:
            kind = self._random.choice(kinds)
            self._number += 1
            kind()
            self.counts[kind.__name__] = self.counts.get(kind.__name__, 0) + 1

    def _status(self, call) -> grpc.StatusCode:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        return caught.value.code()

    def do_good(self) -> None:
        texts = [f"{kind} {self._number}" for kind in ("now", "pool", "coroutine")]
        calls = [self._client.begin(text, timeout=30.0) for text in texts]
        assert [call.result(30.0).text for call in calls] == texts
        assert [dict(call.trailing_metadata())["text"] for call in calls] == [str(self._number)] * 3

    def do_failing(self) -> None:
        for kind, code in (("fail", "NOT_FOUND"), ("fail-later", "ABORTED")):
            error = self._client.begin(f"{kind} {self._number}", timeout=30.0).exception(30.0)
            assert (error.code().name, error.details()) == (code, f"{kind} {self._number}")

    def do_cancelled(self) -> None:
        for kind in ("now", "pool", "coroutine", "never", "never-coroutine"):
            call = self._client.begin(f"{kind} {self._number}", timeout=30.0)
            if self._random.random() < 0.5:
                time.sleep(self._random.random() * 0.002)  # at any moment of its life
            call.cancel()

    def do_expired(self) -> None:
        for kind in ("pool", "coroutine", "never", "never-coroutine"):
            text = f"{kind} {self._number}"
            call = self._client.begin(text, timeout=self._random.random() * 0.005)
            error = call.exception(30.0)
            if error is None:
                assert call.result().text == text
            else:
                assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    def do_oversized(self) -> None:
        code = self._status(lambda: self._raw(bytes(5 << 20), timeout=30.0))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED

    def do_garbage(self) -> None:
        assert self._status(lambda: self._raw(b"\xff\xff", timeout=30.0)) is grpc.StatusCode.INTERNAL

    def do_without_message(self) -> None:
        code = self._status(lambda: self._stream(iter(()), timeout=30.0))
        assert code is grpc.StatusCode.UNIMPLEMENTED

    def do_unknown(self) -> None:
        call = self._client.channel.unary_unary("/no/such")
        assert self._status(lambda: call(b"", timeout=30.0)) is grpc.StatusCode.UNIMPLEMENTED

    def do_dropped(self) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{self._client.server.port}") as channel:
            other = Client(channel, self._client.server)
            calls = [other.begin(f"never {self._number}"), other.begin(f"pool {self._number}")]
            with contextlib.suppress(grpc.RpcError, grpc.FutureTimeoutError):
                calls[1].result(0.01)


def threads() -> collections.Counter[str]:
    """Count the threads by name; those of gRPC core, which come and go, are not among them."""
    return collections.Counter(thread.name for thread in threading.enumerate())


@pytest.mark.parametrize("executors", [1, 2])
def test_soak(executors):
    with echoing(Anything, contexts=CONTEXTS // executors, threads=executors, resources=Pools()) as client:
        Mixer(client, 99).do_good()  # starts the loop
        client.idle()
        before = threads()

        mixers = [Mixer(client, seed) for seed in range(3)]
        errors = []

        def run(mixer):
            try:
                mixer.run(time.monotonic() + SECONDS / 2)
            except BaseException as error:
                errors.append(error)

        for thread in [on_thread(lambda mixer=mixer: run(mixer)) for mixer in mixers]:
            thread.join(60.0)
            assert not thread.is_alive()
        if errors:
            raise errors[0]
        assert {name for mixer in mixers for name in mixer.counts} == {
            name for name in vars(Mixer) if name.startswith("do_")
        }

        client.idle()
        for _ in range(2):  # Every slot is still usable: they all meet.
            calls = [client.begin(f"meet {number}") for number in range(CONTEXTS)]
            assert [call.result(SOON).text for call in calls] == [f"meet {n}" for n in range(CONTEXTS)]
        eventually(lambda: threads() <= before)
        assert client.server.stop(SOON) is True
