"""Several executors in one server, each with its RPCs, threads and CPUs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import grpc
import pytest
from echoing import SOON, eventually
from streaming import SERVICE, Client, Log, Requests, connected, ended

import yais
from yais.core.cpu_set import CpuSet


class Where(yais.Context):
    """Answers with the number of its executor's thread."""

    def execute(self, request):
        name = threading.current_thread().name
        return int(name.rpartition("-")[2])


class Blocking(yais.Context):
    """Blocks its executor's thread until the test lets go."""

    entered: Log
    go_on: threading.Event

    @classmethod
    def fresh(cls):
        return type("OwnBlocking", (cls,), {"entered": Log(), "go_on": threading.Event()})

    def execute(self, request):
        self.entered.add(threading.current_thread().name)
        assert self.go_on.wait(SOON)
        return request


def named():
    """Return a context that answers nothing and notes on which thread, and the log."""
    log = Log()

    class Noting(yais.Context):
        def execute(self, request):
            path = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
            log.add((threading.current_thread().name, path.read_text().strip()))
            return request

    return Noting, log


def assigned(classes, contexts=4):
    """Make a service of (context class, executor) pairs, by the names of their RPCs."""
    service = yais.Service(SERVICE)
    for rpc, (context, executor) in classes.items():
        service.register(
            rpc,
            context,
            contexts=contexts,
            executor=executor,
            deserialize=int,
            serialize=lambda number: b"%d" % number,
        )
    return service


class Serving:
    """A server with executors, started by `with`, and a client of it."""

    def __init__(self, service, executors, **options):
        self.server = yais.Server("127.0.0.1:0", grace=5.0, **options)
        self.server.add(service)
        for name, arguments in executors.items():
            self.server.add_executor(name, **arguments)

    def __enter__(self):
        self.server.start()
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.server.port}", options=options)
        return Client(self.server, self.channel, (int, lambda number: b"%d" % number))

    def __exit__(self, *_):
        self.channel.close()
        self.server.stop()


@pytest.mark.parametrize("experiment", ["one connection", "many connections"])
def test_an_executor_that_is_blocked_holds_up_no_other(experiment):
    # The thread that polls reads the sockets: that of a connection must not depend on one thread.
    blocking = Blocking.fresh()
    service = assigned({"Infer": (blocking, None), "Status": (Where, "status")})
    for _ in range(5):
        with Serving(service, {"status": {}}) as client:
            call = client.one(7, rpc="Infer")
            blocking.entered.wait("yais-rpc-0")
            for _ in range(20):
                if experiment == "one connection":
                    assert client.one(0, rpc="Status").result(SOON) == 0
                else:
                    with grpc.insecure_channel(
                        f"127.0.0.1:{client.server.port}", options=[("grpc.use_local_subchannel_pool", 1)]
                    ) as channel:
                        method = channel.unary_unary(f"/{SERVICE}/Status")
                        assert method(b"0", timeout=SOON) == b"0"
            assert not call.done()
            blocking.go_on.set()
            assert call.result(SOON) == 7
        blocking.entered.entries.clear()
        blocking.go_on.clear()


def test_the_default_executor_is_not_held_up_by_another():
    blocking = Blocking.fresh()
    service = assigned({"Infer": (blocking, "infer"), "Status": (Where, None)})
    with Serving(service, {"infer": {}}) as client:
        calls = [client.one(number, rpc="Infer") for number in range(4)]
        blocking.entered.wait("yais-infer-0")
        for _ in range(20):
            assert client.one(0, rpc="Status").result(SOON) == 0
            client.pass_by()  # Health is served there, too.
        blocking.go_on.set()
        assert [call.result(SOON) for call in calls] == [0, 1, 2, 3]


def test_streams_are_not_held_up_either():
    blocking = Blocking.fresh()

    class Echo(yais.BidirectionalContext):
        def execute(self, request):
            return request

    service = assigned({"Infer": (blocking, None), "Chat": (Echo, "chat")})
    with Serving(service, {"chat": {}}) as client, Requests() as requests:
        chat = client.chat(requests, rpc="Chat")
        requests.send(-1)
        assert next(chat) == -1
        call = client.one(7, rpc="Infer")
        blocking.entered.wait_for_count(1)
        for number in range(20):
            requests.send(number)
            assert next(chat) == number
        requests.end()
        assert ended(chat) == ([], grpc.StatusCode.OK)
        blocking.go_on.set()
        assert call.result(SOON) == 7


def test_a_full_rpc_holds_up_no_other():
    # All contexts of one RPC are taken; those of another are not, be it on the same executor.
    future, log = yais.Future(), Log()

    class Waiting(yais.Context):
        def execute(self, request):
            log.add(request)
            return future

    service = assigned({"Infer": (Waiting, None), "Status": (Where, None)}, contexts=1)
    with Serving(service, {}) as client:
        calls = [client.one(number, rpc="Infer") for number in range(3)]
        log.wait_for_count(1)
        assert client.one(0, rpc="Status").result(SOON) == 0
        assert len(log) == 1
        future.set_result(5)
        assert [call.result(SOON) for call in calls] == [5, 5, 5]


def test_names_of_the_threads():
    first, first_log = named()
    second, second_log = named()
    service = assigned({"First": (first, None), "Second": (second, "quick")})
    with Serving(service, {"quick": {}}) as client:
        assert client.one(1, rpc="First").result(SOON) == 1
        assert client.one(2, rpc="Second").result(SOON) == 2
    assert first_log.entries == [("yais-rpc-0", "yais-rpc-0")]
    assert second_log.entries == [("yais-quick-0", "yais-quick-0")]


def test_several_threads():
    barrier = threading.Barrier(3)
    threads = Log()

    class Meet(yais.Context):
        def execute(self, request):
            barrier.wait(SOON)
            threads.add(threading.current_thread().name)
            return request

    service = assigned({"Meet": (Meet, "many")}, contexts=1)
    with Serving(service, {"many": {"threads": 3}}) as client:
        calls = [client.one(number, rpc="Meet") for number in range(3)]
        assert [call.result(SOON) for call in calls] == [0, 1, 2]
        statistics = client.server.statistics().methods[f"/{SERVICE}/Meet"]
    assert set(threads.entries) == {"yais-many-0", "yais-many-1", "yais-many-2"}
    assert statistics.contexts == 3  # one for each thread
    assert statistics.executor == "many"


def test_the_threads_end_with_the_server():
    before = set(threading.enumerate())
    service = assigned({"Status": (Where, "status"), "Other": (Where, None)})
    with Serving(service, {"status": {"threads": 2}}) as client:
        assert client.one(0, rpc="Other").result(SOON) == 0
        names = {thread.name for thread in set(threading.enumerate()) - before}
        assert {"yais-rpc-0", "yais-status-0", "yais-status-1"} <= names
        assert client.server.stop()
        left = {thread.name for thread in set(threading.enumerate()) - before}
        assert not {name for name in left if name.startswith(("yais-rpc", "yais-status"))}


def test_the_drain_waits_for_every_executor():
    future, log = yais.Future(), Log()

    class Waiting(yais.Context):
        def execute(self, request):
            log.add(request)
            return future

    service = assigned({"Infer": (Waiting, "infer"), "Status": (Where, None)})
    with Serving(service, {"infer": {}}) as client:
        call = client.one(1, rpc="Infer")
        log.wait(1)
        stopped = Log()
        thread = threading.Thread(target=lambda: stopped.add(client.server.stop(SOON)))
        thread.start()
        # gRPC core may keep a call that arrives in the very moment until the end (grpc/grpc#41785).
        eventually(lambda: client.one(0, rpc="Status", timeout=0.5).exception(SOON) is not None)
        assert not stopped.entries
        future.set_result(2)
        assert call.result(SOON) == 2
        thread.join(SOON)
        assert stopped.entries == [True]


# CPUs


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("executor", [None, "pinned"])
def test_cpus(executor, as_text):
    before = os.sched_getaffinity(0)
    cpu = max(before)
    cpus = str(cpu) if as_text else CpuSet([cpu])
    seen = Log()

    class Pinned(yais.Context):
        def execute(self, request):
            seen.add(os.sched_getaffinity(0))
            return request

    service = assigned({"Pinned": (Pinned, executor), "Free": (Where, None)})
    executors = {} if executor is None else {executor: {"cpus": cpus}}
    options = {"cpus": cpus} if executor is None else {}
    with Serving(service, executors, **options) as client:
        assert client.one(1, rpc="Pinned").result(SOON) == 1
        assert client.one(1, rpc="Free").result(SOON) == 0
    assert seen.entries == [{cpu}]
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_cpus_of_one_executor_are_not_those_of_another():
    first, second = sorted(os.sched_getaffinity(0))[:2]
    seen = {"First": Log(), "Second": Log(), "Third": Log()}

    def context(name):
        class Pinned(yais.Context):
            def execute(self, request):
                seen[name].add(os.sched_getaffinity(0))
                return request

        return Pinned

    service = assigned(
        {
            "First": (context("First"), None),
            "Second": (context("Second"), "second"),
            "Third": (context("Third"), "third"),
        }
    )
    executors = {"second": {"cpus": str(second), "threads": 2}, "third": {}}
    with Serving(service, executors, cpus=str(first)) as client:
        for name in seen:
            client.one(1, rpc=name).result(SOON)
    assert seen["First"].entries == [{first}]
    assert seen["Second"].entries == [{second}]
    assert seen["Third"].entries == [os.sched_getaffinity(0)]


def test_cpus_that_are_not_allowed_are_refused():
    before = os.sched_getaffinity(0)
    server = yais.Server("127.0.0.1:0")
    with pytest.raises(ValueError, match="8000"):
        server.add_executor("far", cpus="8000")
    with pytest.raises(ValueError, match="8000"):
        yais.Server("127.0.0.1:0", cpus=CpuSet([8000]) | CpuSet(before))
    assert os.sched_getaffinity(0) == before
    server.add_executor("far")  # The name is not taken by that.


# What is refused


def test_an_executor_that_is_there_already():
    server = yais.Server("127.0.0.1:0")
    server.add_executor("status")
    with pytest.raises(ValueError, match="executor 'status' is there already"):
        server.add_executor("status")


@pytest.mark.parametrize("threads", [0, -1])
def test_too_few_threads(threads):
    with pytest.raises(ValueError, match=f"executor 'status': got threads={threads}, expected at least 1"):
        yais.Server("127.0.0.1:0").add_executor("status", threads=threads)
    with pytest.raises(ValueError, match=f"got threads={threads}, expected at least 1"):
        yais.Server("127.0.0.1:0", threads=threads)


def test_an_executor_there_is_not():
    server = yais.Server("127.0.0.1:0")
    server.add(assigned({"Status": (Where, "stauts")}))
    server.add_executor("status")
    with pytest.raises(
        ValueError,
        match=f"/{SERVICE}/Status: got executor 'stauts', expected one of default, status",
    ):
        server.start()


def test_an_executor_without_an_rpc():
    server = yais.Server("127.0.0.1:0")
    server.add(assigned({"Status": (Where, None)}))
    server.add_executor("idle")
    with pytest.raises(ValueError, match="executor 'idle' serves no RPC"):
        server.start()


def test_executors_are_added_before_the_start():
    service = assigned({"Status": (Where, None)})
    with connected(service) as client:
        with pytest.raises(RuntimeError, match="the server was started already"):
            client.server.add_executor("late")
        assert client.one(0, rpc="Status").result(SOON) == 0
