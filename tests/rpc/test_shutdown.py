"""How servers start and stop: draining, cancelling, giving everything back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator

import grpc
import pytest
from echo_pb2 import EchoReply, EchoRequest
from echoing import DEADLINE, SOON, Client, Held, echo_service, echoing, eventually, on_thread
from grpc_health.v1 import health_pb2, health_pb2_grpc
from wire import GOAWAY, SETTINGS, Wire, kind

import yais
from yais.core.thread_pool import ThreadPool
from yais.testing import serving

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Echo(yais.Context[EchoRequest, EchoReply, yais.Resources]):
    def execute(self, request):
        return EchoReply(text=request.text)


class Stopping:
    """`server.stop` on a thread of its own."""

    def __init__(self, server: yais.Server, grace: float) -> None:
        self._answers: list[bool] = []
        self._thread = on_thread(lambda: self._answers.append(server.stop(grace)))

    def answer(self) -> bool:
        self._thread.join(SOON)
        [answer] = self._answers
        return answer


class Watch:
    """What the health service tells a watcher, one after the other."""

    def __init__(self, channel: grpc.Channel, service: str = "") -> None:
        request = health_pb2.HealthCheckRequest(service=service)
        self._stream = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=SOON)

    def next(self) -> int:
        return next(self._stream).status

    def rest(self) -> list[int]:
        return [response.status for response in self._stream]

    def end(self) -> None:
        self._stream.cancel()
        with contextlib.suppress(grpc.RpcError):
            self.rest()


# Calls in flight


def test_stop_when_idle():
    with echoing(Echo) as client:
        client.say("")
        assert client.server.stop(SOON) is True
        assert client.server.wait(0)
        assert client.fail("").code() is grpc.StatusCode.UNAVAILABLE


def test_stop_before_any_call():
    with echoing(Echo, threads=3) as client:
        assert client.server.stop(SOON) is True


def test_calls_in_flight_may_end_within_the_grace(caplog):
    held = Held.fresh()
    with echoing(held, contexts=3, threads=2) as client:
        watch = Watch(client.channel)
        assert watch.next() == SERVING
        calls = [client.begin(f"hold {number}") for number in range(3)]
        held.started.wait("hold 0", "hold 1", "hold 2")
        stopping = Stopping(client.server, grace=SOON)
        assert watch.next() == NOT_SERVING
        watch.end()
        assert not client.server.wait(0)
        for number in range(3):
            held.finish(f"hold {number}")
        assert [call.result(SOON).text for call in calls] == ["hold 0", "hold 1", "hold 2"]
        assert stopping.answer() is True
        assert client.server.in_flight == 0
    assert not caplog.records


def test_a_draining_server_refuses_new_calls():
    held = Held.fresh()
    with echoing(held) as client:
        call = client.begin("hold")
        held.started.wait("hold")
        stopping = Stopping(client.server, grace=SOON)

        def refused() -> bool:
            error = client.begin("new", timeout=0.5).exception(SOON)
            return error is not None and error.code() is grpc.StatusCode.UNAVAILABLE

        # Until the connection learns of it, core cancels new calls on it one by one, but for what arrives in
        # the very moment: that it keeps until the end (grpc/grpc#41785).
        eventually(refused)
        held.finish("hold")
        assert call.result(SOON).text == "hold"
        assert stopping.answer() is True


@pytest.mark.usefixtures("unhurried")
def test_calls_in_flight_are_cancelled_after_the_grace(caplog):
    held = Held.fresh()
    with echoing(held) as client:
        call = client.begin("hold")
        held.started.wait("hold")
        assert client.server.stop(0.0) is True
        assert call.exception(SOON).code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert held.futures["hold"].cancelled()
        assert held.started.contexts["hold"].cancelled
    assert [record.getMessage() for record in caplog.records] == [
        "1 calls are still in flight, their time is over: cancelling them"
    ]


def test_calls_that_wait_for_a_context_are_refused():
    held = Held.fresh()
    with echoing(held, contexts=1) as client:
        call = client.begin("hold")
        held.started.wait("hold")
        waiting = client.begin("waiting")
        client.pass_by()
        stopping = Stopping(client.server, grace=SOON)
        refusal = waiting.exception(SOON)
        assert (refusal.code(), refusal.details()) == (
            grpc.StatusCode.UNAVAILABLE,
            "the server is shutting down",
        )
        held.finish("hold")
        assert call.result(SOON).text == "hold"
        assert stopping.answer() is True
        assert held.started.texts == ["hold"]


def test_a_caller_that_does_not_hang_up_does_not_hold_the_server(caplog):
    # It answers no ping, for which core would wait longer than this test does.
    with echoing(Echo) as client, Wire(client.server.port) as wire:
        wire.wait(kind(SETTINGS))
        assert Stopping(client.server, grace=60.0).answer() is True
        wire.wait_closed()
    assert not caplog.records


def test_a_call_in_flight_is_not_taken_for_such_a_caller(monkeypatch):
    monkeypatch.setattr("yais.rpc.server._HANG_UP", 0.0)
    held = Held.fresh()
    with echoing(held) as client, Wire(client.server.port) as wire:
        wire.wait(kind(SETTINGS))
        call = client.begin("hold")
        held.started.wait("hold")
        stopping = Stopping(client.server, grace=SOON)
        wire.wait(kind(GOAWAY))
        assert not client.server.wait(0.5)  # several looks
        held.finish("hold")
        assert call.result(SOON).text == "hold"
        assert stopping.answer() is True


class Door(yais.Resources):
    """Serves something beside RPCs."""

    def __init__(self, clean: bool = True):
        self.clean = clean
        self.order = []
        self.drained = threading.Event()

    def drain(self, deadline, hurried):
        self.order.append("drain")
        self.remaining = deadline.remaining()
        while not (self.drained.wait(0.01) or hurried.is_set()):
            assert not deadline.expired()
        return self.clean

    def close(self):
        self.order.append("close")


def test_what_resources_serve_is_drained_before_they_are_closed():
    door = Door()
    with echoing(Echo, resources=door) as client:
        assert not client.server.stopping
        stopping = Stopping(client.server, grace=SOON)
        eventually(lambda: door.order == ["drain"])
        assert client.server.stopping
        assert not client.server.wait(0.1)
        door.drained.set()
        assert stopping.answer() is True
    assert door.order == ["drain", "close"]
    assert 0 < door.remaining <= SOON


def test_a_stop_is_not_clean_if_the_resources_were_not_drained():
    door = Door(clean=False)
    door.drained.set()
    with echoing(Echo, resources=door) as client:
        assert client.server.stop(SOON) is False


def test_work_of_a_caller_that_has_gone_has_the_grace_too():
    # The connection is gone and core is done at once, but the context still uses the resources.
    closed = threading.Event()
    held = Held.fresh()

    class Closing(yais.Resources):
        def close(self):
            closed.set()

    with echoing(held, resources=Closing()) as client:
        call = client.begin("hold")
        held.started.wait("hold")
        future, context = held.futures["hold"], held.started.contexts["hold"]
        assert future.set_running_or_notify_cancel()
        client.pass_by()
        call.cancel()
        eventually(lambda: context.cancelled)
        client.channel.close()
        stopping = Stopping(client.server, grace=SOON)
        # Longer than contexts get that ignore a cancellation by the server.
        assert not closed.wait(1.5)
        held.finish("hold")
        assert stopping.answer() is True
        assert closed.is_set()


def test_a_context_that_never_ends_is_left_behind(caplog):
    held = Held.fresh()
    with echoing(held) as client:
        call = client.begin("hold")
        held.started.wait("hold")
        assert held.futures["hold"].set_running_or_notify_cancel()
        assert client.server.stop(0.0) is False
        assert client.server.stop(0.0) is False
        assert client.server.wait(0)
        assert "1 calls did not end: their contexts ignore cancellation" in caplog.text
        assert client.server.in_flight == 1
        held.finish("hold")  # So that this process gets its thread back.
        assert call.exception(SOON) is not None
        client.idle()
    eventually(lambda: "yais-rpc-0" not in [thread.name for thread in threading.enumerate()])


@pytest.mark.usefixtures("unhurried")
def test_a_coroutine_cleans_up_before_the_resources_are_closed():
    order = []
    waits = threading.Event()

    class Closing(yais.Resources):
        def close(self):
            order.append("resources closed")

    class Waiting(yais.Context[EchoRequest, EchoReply, Closing]):
        async def execute(self, request):
            waits.set()
            try:
                await yais.Future()
            finally:
                await asyncio.sleep(0.05)
                order.append("cleaned up")

    with echoing(Waiting, resources=Closing()) as client:
        call = client.begin("")
        assert waits.wait(SOON)
        assert client.server.stop(0.0) is True
        assert call.exception(SOON) is not None
    assert order == ["cleaned up", "resources closed"]


@pytest.mark.usefixtures("unhurried")
def test_streams_of_servicers_are_cancelled_too(caplog):
    with echoing(Echo) as client:
        watch = Watch(client.channel)
        assert watch.next() == SERVING
        assert client.server.stop(0.0) is True
        with pytest.raises(grpc.RpcError):
            watch.rest()
    assert "1 calls are still in flight" in caplog.text


# Stopping more than once, or at odd moments


def test_stop_twice():
    with echoing(Echo) as client:
        assert client.server.stop() is True
        assert client.server.stop() is True


def test_stop_from_several_threads():
    held = Held.fresh()
    with echoing(held) as client:
        call = client.begin("hold")
        held.started.wait("hold")
        stoppings = [Stopping(client.server, grace=SOON) for _ in range(5)]
        held.finish("hold")
        assert call.result(SOON).text == "hold"
        assert [stopping.answer() for stopping in stoppings] == [True] * 5


def test_stop_may_be_interrupted_and_called_again():
    class Interrupted(Exception):
        pass

    def interrupt(number, frame):
        raise Interrupted

    held = Held.fresh()
    with echoing(held) as client:
        call = client.begin("hold")
        held.started.wait("hold")
        before = signal.signal(signal.SIGUSR1, interrupt)
        try:
            watch = Watch(client.channel)
            assert watch.next() == SERVING

            def when_draining():
                watch.next()
                watch.end()
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

            thread = on_thread(when_draining)
            with pytest.raises(Interrupted):
                client.server.stop(SOON)
            thread.join(SOON)
        finally:
            signal.signal(signal.SIGUSR1, before)
        held.finish("hold")
        assert call.result(SOON).text == "hold"
        assert client.server.stop(SOON) is True


@pytest.mark.parametrize("asynchronous", [False, True])
def test_stop_where_it_would_wait_for_itself_is_refused(asynchronous):
    class Suicide(yais.Context[EchoRequest, EchoReply, yais.Resources]):
        def execute(self, request):
            return self.in_coroutine() if asynchronous else servers[0].stop()

        async def in_coroutine(self):
            servers[0].stop()

    servers = []
    with echoing(Suicide) as client:
        servers.append(client.server)
        code, details = client.status("")
        assert code is grpc.StatusCode.UNKNOWN
        assert "stop was called on an executor's or the loop's thread" in details


def test_stop_before_start():
    server = yais.Server("127.0.0.1:0")
    assert server.stop() is True
    server.start()
    assert server.stop() is True


def test_start_twice():
    with echoing(Echo) as client:
        with pytest.raises(RuntimeError, match="started already"):
            client.server.start()
        assert client.say("still here") == "still here"
        client.server.stop()
        with pytest.raises(RuntimeError, match="started already"):
            client.server.start()


def test_stop_waits_for_start():
    opening, may_open = threading.Event(), threading.Event()

    class Slow(yais.Resources):
        def open(self):
            opening.set()
            assert may_open.wait(SOON)

    server = yais.Server("127.0.0.1:0", resources=Slow())
    thread = on_thread(server.start)
    assert opening.wait(SOON)
    stopping = Stopping(server, grace=SOON)
    may_open.set()
    thread.join(SOON)
    assert stopping.answer() is True
    assert server.wait(0)


# Giving back


def sockets() -> set[str]:
    """Return the sockets this process has open."""
    links = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            links.add(os.readlink(f"/proc/self/fd/{number}"))
    return {link for link in links if link.startswith("socket:")}


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_an_address_in_use_leaks_nothing():
    with echoing(Echo):  # what gRPC itself keeps once it runs
        pass
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        before, names = sockets(), {thread.name for thread in threading.enumerate()}
        opened = []

        class Noting(yais.Resources):
            def open(self):
                opened.append(self)

        server = yais.Server("127.0.0.1:0", taken, resources=Noting(), threads=2)
        server.add(echo_service(Echo))
        with pytest.raises(OSError, match=f"cannot listen on '{taken}': is the address in use?"):
            server.start()
        assert not opened
        assert {thread.name for thread in threading.enumerate()} == names
        # The port that could be bound is free again.
        [port] = server.ports
        eventually(lambda: sockets() == before)
        with socket.create_server(("127.0.0.1", port)):
            pass
        assert server.stop() is True


def own_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("yais-")]


@pytest.mark.parametrize("number", [1, 3])
def test_resources_that_cannot_be_opened(number):
    class Broken(yais.Resources):
        closed = False

        def open(self):
            raise LookupError("no such model")

        def close(self):
            self.closed = True

    before = own_threads()
    resources = Broken()
    server = yais.Server("127.0.0.1:0", resources=resources, threads=number)
    server.add(echo_service(Echo))
    with pytest.raises(LookupError, match="no such model"):
        server.start()
    assert not [thread for thread in own_threads() if thread not in before]
    # What was never opened is not closed.
    assert server.stop() is True and not resources.closed
    assert server.wait(0)
    with socket.create_server(("127.0.0.1", server.port)):
        pass
    with pytest.raises(RuntimeError, match="started already"):
        server.start()


class Closable:
    def __init__(self, order, name, error=None):
        self.order, self.name, self.error = order, name, error

    def close(self):
        self.order.append(self.name)
        if self.error:
            raise self.error


def test_resources_are_opened_before_and_closed_after_all_calls():
    order = []

    class Ordered(yais.Resources):
        def __init__(self):
            self.first = Closable(order, "first closed")
            self.number = 5
            self.second = Closable(order, "second closed")

        def open(self):
            order.append("opened")

    class Noting(yais.Context[EchoRequest, EchoReply, Ordered]):
        def execute(self, request):
            order.append("executed")
            return EchoReply()

        def on_finish(self):
            order.append("finished")

    with echoing(Noting, resources=Ordered()) as client:
        client.say("")
        client.server.stop()
        client.server.stop()
    assert order == ["opened", "executed", "finished", "second closed", "first closed"]


def test_resources_that_fail_to_close():
    order, before = [], own_threads()

    class Failing(yais.Resources):
        def __init__(self):
            self.first = Closable(order, "first")
            self.second = Closable(order, "second", LookupError("not there"))

    with echoing(Echo, resources=Failing()) as client:
        with pytest.raises(LookupError, match="not there"):
            client.server.stop()
        assert order == ["second", "first"]
        # The server is stopped for all that.
        assert client.server.wait(0)
        assert client.server.stop() is True
    assert not [thread for thread in own_threads() if thread not in before]


def test_thread_pools_among_the_resources_are_closed():
    class Pools(yais.Resources):
        def __init__(self):
            self.workers = ThreadPool(2, name="worker")

    with echoing(Echo, resources=Pools()) as client:
        client.say("")
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("worker")])


def test_many_servers_one_after_the_other_leave_nothing_behind():
    class Mixed(yais.Context[EchoRequest, EchoReply, yais.Resources]):
        def execute(self, request):
            return self.later(request) if request.text else EchoReply()

        async def later(self, request):
            return EchoReply(text=request.text)

    def cycle():
        with echoing(Mixed, threads=2) as client:
            assert client.say("x") + client.say("") == "x"

    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    for _ in range(5):  # gRPC's own threads come first
        cycle()
    before = threads(), descriptors()
    for _ in range(30):
        cycle()
    eventually(lambda: threads() <= before[0] and descriptors() <= before[1])


# Health


def test_health_follows_the_server():
    held = Held.fresh()
    server = yais.Server("127.0.0.1:0")
    server.add(echo_service(held))
    server.start(serving=False)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        watch, part = Watch(channel), Watch(channel, "part")
        assert watch.next() == NOT_SERVING
        assert part.next() == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        assert not server.health.serving()
        server.health.report(serving=True)
        server.health.report(serving=True, service="part")
        assert (watch.next(), part.next()) == (SERVING, SERVING)
        assert (
            server.health.serving() and server.health.serving("part") and not server.health.serving("other")
        )
        client = Client(channel, server)
        call = client.begin("hold")
        held.started.wait("hold")
        stopping = Stopping(server, grace=SOON)
        assert (watch.next(), part.next()) == (NOT_SERVING, NOT_SERVING)
        server.health.report(serving=True)  # too late
        assert not server.health.serving()
        assert repr(server.health) == "<Health not serving>"
        watch.end()
        part.end()
        held.finish("hold")
        assert call.result(SOON).text == "hold"
        assert stopping.answer() is True


def test_calls_are_accepted_during_the_drain_delay():
    with echoing(Echo, drain_delay=DEADLINE) as client:
        watch = Watch(client.channel)
        assert watch.next() == SERVING
        stopping = Stopping(client.server, grace=SOON)
        assert watch.next() == NOT_SERVING
        assert client.say("not yet drained") == "not yet drained"
        watch.end()
        assert stopping.answer() is True
        assert client.fail("").code() is grpc.StatusCode.UNAVAILABLE


# Processes and signals

PROGRAM = """
    import signal, sys, threading, time
    import yais
    from echo_pb2 import DESCRIPTOR, EchoReply, EchoRequest

    stdin_lines = threading.Semaphore(0)
    def read():
        for line in sys.stdin:
            stdin_lines.release()
    threading.Thread(target=read, daemon=True).start()

    class Closing(yais.Resources):
        def close(self):
            print("closed", flush=True)

    class Echo(yais.Context):
        def execute(self, request):
            future = yais.Future()
            if request.text == "stubborn":
                future.set_running_or_notify_cancel()
            else:
                def end():
                    stdin_lines.acquire()
                    if future.set_running_or_notify_cancel():
                        future.set_result(EchoReply(text=request.text))
                threading.Thread(target=end, daemon=True).start()
            print("executing", flush=True)
            return future

    service = yais.Service(DESCRIPTOR.services_by_name["Echo"])
    service.register("Say", Echo)
    server = yais.Server("127.0.0.1:0", resources=Closing(), grace=60.0)
    server.add(service)
    server.start()
    print(server.port, flush=True)
"""

RUN = """
    def mine(number, frame):
        raise AssertionError("called")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, mine)
    def tell():
        while mine in (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)):
            time.sleep(0.001)
        print("running", flush=True)
    threading.Thread(target=tell, daemon=True).start()
    server.run()
    for number in (signal.SIGTERM, signal.SIGINT):
        assert signal.getsignal(number) is mine
    print("end", flush=True)
"""


class Process:
    """A server in a process of its own, and a client of it."""

    def __init__(self, last: str) -> None:
        import echo_pb2

        program = textwrap.dedent(PROGRAM) + textwrap.dedent(last)
        path = os.pathsep.join([os.path.dirname(yais.__path__[0]), os.path.dirname(echo_pb2.__file__)])
        self._process = subprocess.Popen(
            [sys.executable, "-Werror", "-Xfaulthandler", "-c", program],
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        port = int(self.line())
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.client = Client(self.channel, None)

    def line(self) -> str:
        return self._process.stdout.readline().strip()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def release(self) -> None:
        """Let one call be answered."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit status and what was still printed."""
        out, err = self._process.communicate(timeout=SOON)
        return self._process.returncode, out, err

    def kill(self) -> None:
        self.channel.close()
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def process(last: str) -> Iterator[Process]:
    own = Process(last)
    try:
        yield own
    finally:
        own.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(number):
    with process(RUN) as own:
        assert own.line() == "running"
        call = own.client.begin("last words")
        assert own.line() == "executing"
        watch = Watch(own.channel)
        assert watch.next() == SERVING
        own.signal(number)
        assert watch.next() == NOT_SERVING
        watch.end()
        own.release()
        assert call.result(SOON).text == "last words"
        assert own.end() == (0, "closed\nend\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_cancels(number):
    with process(RUN) as own:
        assert own.line() == "running"
        call = own.client.begin("never")
        assert own.line() == "executing"
        watch = Watch(own.channel)
        assert watch.next() == SERVING
        own.signal(number)
        assert watch.next() == NOT_SERVING
        watch.end()
        own.signal(number)
        assert call.exception(SOON).code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        status, out, err = own.end()
        assert (status, out) == (0, "closed\nend\n")
        assert "calls are still in flight" in err


def test_other_signals_are_none_of_its_business():
    others = 'signal.signal(signal.SIGUSR1, lambda number, frame: print("other", flush=True))'
    with process(others + textwrap.dedent(RUN)) as own:
        assert own.line() == "running"
        for _ in range(2):
            own.signal(signal.SIGUSR1)
            assert own.line() == "other"
        call = own.client.begin("still here")
        assert own.line() == "executing"
        own.release()
        assert call.result(SOON).text == "still here"
        own.signal(signal.SIGTERM)
        assert own.end() == (0, "closed\nend\n", "")


def test_many_signals_at_once():
    with process(RUN) as own:
        assert own.line() == "running"
        call = own.client.begin("stubborn")
        assert own.line() == "executing"
        for _ in range(20):
            own.signal(signal.SIGTERM)
            own.signal(signal.SIGINT)
        status, out, _ = own.end()
        assert (status, out) == (0, "closed\nend\n")
        assert call.exception(SOON) is not None


def test_a_process_ends_in_spite_of_a_context_that_does_not():
    with process("assert stdin_lines.acquire(); assert not server.stop(0.0)") as own:
        call = own.client.begin("stubborn")
        assert own.line() == "executing"
        own.release()
        status, out, err = own.end()
        assert (status, out) == (0, "closed\n")
        assert "did not end" in err
        assert call.exception(SOON) is not None


def test_a_process_ends_although_its_server_was_not_stopped():
    with process("stdin_lines.acquire()") as own:
        call = own.client.begin("stubborn")
        assert own.line() == "executing"
        own.release()
        assert own.end() == (0, "", "")
        assert call.exception(SOON) is not None


def test_run_returns_when_another_thread_stops_the_server():
    server = yais.Server("127.0.0.1:0")
    server.add(echo_service(Echo))
    before = signal.getsignal(signal.SIGTERM)
    server.start()

    def stop():
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            assert Client(channel, server).say("hello") == "hello"
        server.stop()

    thread = on_thread(stop)
    server.run()
    thread.join(SOON)
    assert server.wait(0)
    assert signal.getsignal(signal.SIGTERM) is before
    server.run()  # There is nothing left to run.


def test_run_on_another_thread_is_refused():
    server = yais.Server("127.0.0.1:0")
    errors = []

    def run():
        try:
            server.run()
        except RuntimeError as error:
            errors.append(error)

    on_thread(run).join(SOON)
    assert "another thread than the main one" in str(errors[0])
    assert repr(server).startswith("<Server not started")


def test_logging_is_left_to_the_program(caplog):
    with caplog.at_level(logging.DEBUG, logger="yais"), serving(echo_service(Echo)):
        pass
    assert not caplog.records


def test_a_watch_of_the_health_does_not_hold_the_server() -> None:
    with serving() as client:
        request = health_pb2.HealthCheckRequest()
        stream = health_pb2_grpc.HealthStub(client.channel).Watch(request, timeout=SOON)
        assert next(stream).status == health_pb2.HealthCheckResponse.SERVING
        assert client.server.stop(grace=SOON)
        assert next(stream).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "the server is shutting down"
