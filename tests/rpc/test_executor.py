"""Executor threads: their queue, their names, and what they do when the queue has run empty."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

import pytest
from echo_pb2 import EchoReply, EchoRequest
from echoing import SOON, echoing

import yais
from yais.core.dispatcher import current_dispatcher
from yais.rpc.completion_queue import CoreServer
from yais.rpc.executor import Executor


class Deferring(yais.Context[EchoRequest, EchoReply, yais.Resources]):
    """Runs `task(self)` and answers with its result once the queue has run empty."""

    task = staticmethod(lambda context: None)

    def execute(self, request):
        future = yais.Future()
        self.text = request.text
        self.task(self, lambda text: future.set_result(EchoReply(text=text)))
        return future


def deferring(task):
    return type("OwnDeferring", (Deferring,), {"task": staticmethod(task)})


def test_callbacks_run_in_the_order_in_which_they_were_given():
    order = []

    def task(context, answer):
        here = current_dispatcher()
        for number in range(5):
            here.when_drained(lambda number=number: order.append(number))
        here.when_drained(lambda: answer(str(order)))
        assert not order

    with echoing(deferring(task)) as client:
        assert client.say("") == "[0, 1, 2, 3, 4]"


def test_a_callback_may_give_another():
    threads = []

    def task(context, answer):
        def again(left):
            threads.append(threading.current_thread())
            if left:
                current_dispatcher().when_drained(lambda: again(left - 1))
            else:
                answer("done")

        current_dispatcher().when_drained(lambda: again(100))

    with echoing(deferring(task)) as client:
        assert client.say("") == "done"
    assert len(threads) == 101 and len(set(threads)) == 1


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(1)], ids=repr)
def test_a_callback_that_raises_keeps_no_other_from_running(caplog, error):
    def task(context, answer):
        def fail():
            raise error

        current_dispatcher().when_drained(fail)
        current_dispatcher().when_drained(lambda: answer("after"))

    with echoing(deferring(task)) as client:
        assert client.say("") == "after"
    assert caplog.records[0].exc_info[1] is error


def test_what_has_arrived_is_handled_before():
    # A batch is as large as what has arrived while the thread was busy.
    waiting, sizes = [], queue.SimpleQueue()
    go_on, blocks = threading.Event(), threading.Event()

    def run():
        sizes.put(len(waiting))
        for answer in waiting:
            answer("x")
        waiting.clear()

    def task(context, answer):
        if context.text == "block":
            blocks.set()
            assert go_on.wait(SOON)
            answer("x")
            return
        if not waiting:
            current_dispatcher().when_drained(run)
        waiting.append(answer)

    with echoing(deferring(task), contexts=30) as client:
        first = client.begin("block")
        assert blocks.wait(SOON)
        calls = [client.begin("") for _ in range(20)]
        go_on.set()
        assert [call.result(SOON).text for call in (first, *calls)] == ["x"] * 21
        collected = []
        while sum(collected) < 20:
            collected.append(sizes.get(timeout=SOON))
        assert len(collected) < 20


def test_callbacks_run_although_the_queue_never_runs_empty():
    executed = []
    go_on, blocks = threading.Event(), threading.Event()
    seen = queue.SimpleQueue()

    class Busy(yais.Context[EchoRequest, EchoReply, yais.Resources]):
        def execute(self, request):
            executed.append(request.text)
            if request.text == "block":
                blocks.set()
                assert go_on.wait(SOON)
                current_dispatcher().when_drained(lambda: seen.put(len(executed)))
            return EchoReply()

    count = 1500
    with echoing(Busy, contexts=count + 1) as client:
        first = client.begin("block")
        assert blocks.wait(SOON)
        calls = [client.begin("") for _ in range(count)]
        go_on.set()
        assert seen.get(timeout=SOON) < count
        for call in (first, *calls):
            call.result(SOON)
        assert len(executed) == count + 1


def test_what_is_due_later_is_called_in_order_on_the_thread(caplog):
    called = []

    def task(context, answer):
        def fail():
            called.append(threading.current_thread())
            raise ValueError("odd")

        def end():
            called.append(threading.current_thread())
            answer("after")

        here = current_dispatcher()
        here.after_a_while(fail)
        here.after_a_while(end)
        called.append(threading.current_thread())

    with echoing(deferring(task)) as client:
        assert client.say("") == "after"
    assert len(called) == 3 and len(set(called)) == 1
    assert isinstance(caplog.records[0].exc_info[1], ValueError)


def test_what_is_due_is_called_although_the_queue_never_runs_empty():
    done = threading.Event()

    class Asking(yais.Context[EchoRequest, EchoReply, yais.Resources]):
        def execute(self, request):
            if request.text == "first":
                current_dispatcher().after_a_while(done.set)
            return EchoReply()

    with echoing(Asking, contexts=8) as client:
        client.begin("first").result(SOON)
        calls = [client.begin("") for _ in range(8)]
        while not done.is_set():  # there is always one more, until then
            calls.pop(0).result(SOON)
            calls.append(client.begin(""))
        for call in calls:
            call.result(SOON)


def test_only_executor_threads_are_dispatchers():
    class Where(yais.Context[EchoRequest, EchoReply, yais.Resources]):
        def execute(self, request):
            if request.text == "loop":
                return self.on_loop()
            return EchoReply(text=repr(current_dispatcher()))

        async def on_loop(self):
            return EchoReply(text=repr(current_dispatcher()))

    assert current_dispatcher() is None
    with echoing(Where, contexts=2) as client:
        # Two contexts, the calls that may wait for one, the one for servicers, and the shutdown.
        assert client.say("") == "<Executor yais-rpc-0: running, 68 in use>"
        assert client.say("loop") == "None"


def test_several_executor_threads_work_at_once():
    barrier = threading.Barrier(3)
    names = queue.SimpleQueue()

    class Meet(yais.Context[EchoRequest, EchoReply, yais.Resources]):
        def execute(self, request):
            barrier.wait(SOON)
            names.put(threading.current_thread().name)
            return EchoReply()

    with echoing(Meet, contexts=1, threads=3) as client:
        for _ in range(3):
            calls = [client.begin("") for _ in range(3)]
            for call in calls:
                call.result(SOON)
            assert {names.get(timeout=SOON) for _ in calls} == {"yais-rpc-0", "yais-rpc-1", "yais-rpc-2"}


def test_threads_are_named_for_the_system():
    def comm():
        return Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text().strip()

    class Named(yais.Context[EchoRequest, EchoReply, yais.Resources]):
        def execute(self, request):
            return self.on_loop() if request.text else EchoReply(text=comm())

        async def on_loop(self):
            return EchoReply(text=comm())

    with echoing(Named) as client:
        assert (client.say(""), client.say("loop")) == ("yais-rpc-0", "yais-asyncio")


@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(1)], ids=repr)
def test_a_fault_in_a_handler_ends_no_thread(caplog, error):
    ended, done = threading.Event(), threading.Event()
    executor = Executor("faulty", on_end=ended.set)
    server = CoreServer([], [executor.queue])
    server.start()

    def fail(event):
        executor.vacate()
        raise error

    def shut_down(event):
        executor.vacate()
        done.set()

    executor.occupy()
    executor.occupy()
    assert server.request(None, executor.queue, fail)
    executor.drain()
    executor.start()
    server.shutdown(executor.queue, shut_down)
    assert done.wait(SOON) and ended.wait(SOON)
    server.destroy()
    assert caplog.records[0].exc_info[1] is error


def test_an_executor_without_work_ends_once_it_is_told_to():
    ended = threading.Event()
    executor = Executor("alone", on_end=ended.set)
    assert repr(executor) == "<Executor alone: not running, 0 in use>"
    executor.drain()
    executor.start()
    assert ended.wait(SOON)
    assert executor.ended and executor.join(SOON)
    assert executor.queue.closed
