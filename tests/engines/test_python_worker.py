"""Models in worker processes: they crash, hang and leak there, and nothing else minds."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from python_files import model_file

from yais.core.tensor import DataType, TensorSpec
from yais.engines import worker_engine
from yais.engines.worker_engine import WorkerEngine
from yais.engines.worker_process import PythonModelError, SharedRegion
from yais.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)

SOON = 60.0

OBEDIENT = """
    import os, signal, subprocess, sys, time
    from pathlib import Path
    import numpy as np
    import yais

    kept = []

    def raises(error):
        raise error

    def until(path):
        end = time.monotonic() + 60
        while not Path(path).exists():
            assert time.monotonic() < end
            time.sleep(0.001)

    class Model:
        def execute(self, inputs):
            return {"y": [repr(eval(text, globals())) for text in inputs["x"]]}
"""
"""A model that evaluates expressions."""

COUNTING = """
    import os, time

    class Model:
        def execute(self, inputs):
            try:
                for number in range(int(inputs["x"][0])):
                    if number == 3:
                        os._exit(3)
                    if number == 2 and inputs["x"][0] == 10:
                        raise KeyError(number)
                    yield {"y": [number]}
            finally:
                print("generator ended", flush=True)
"""


def ask(engine, *expressions):
    """Have expressions evaluated in a worker."""
    given = np.array([text.encode() for text in expressions], np.object_)
    return [eval(text) for text in engine.execute([given])[0].tolist()]


def eventually(holds):
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def running(pid):
    """Whether a process runs; one that has ended and that nobody asks about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def answers(engine):
    with contextlib.suppress(Unavailable, DeadlineExceeded):
        return ask(engine, "1 + 1") == [2]
    return False


@pytest.fixture
def start(tmp_path):
    """Return a function that starts engines."""
    started = []

    def of(source=OBEDIENT, datatype=DataType.BYTES, fields=None, **options):
        config = model_file(tmp_path, source, datatype, **(fields or {}))
        started.append(WorkerEngine(config, **options))
        return started[-1]

    yield of
    for engine in started:
        engine.close()
        assert not any(map(running, engine.pids))


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """An engine for tests that leave its process alive."""
    engine = WorkerEngine(model_file(tmp_path_factory.mktemp("model"), OBEDIENT, DataType.BYTES))
    (pid,) = engine.pids
    yield engine
    assert engine.pids == [pid]
    engine.close()


# Tensors


def test_every_type_there_and_back(tmp_path):
    source = "class Model:\n def execute(self, inputs):\n  return {k.lower(): v for k, v in inputs.items()}"
    inputs = tuple(TensorSpec(each.value, each, (-1, -1)) for each in DataType)
    outputs = tuple(TensorSpec(each.value.lower(), each, (-1, -1)) for each in DataType)
    engine = WorkerEngine(model_file(tmp_path, source, inputs=inputs, outputs=outputs))
    random = np.random.default_rng(0)
    for shape in [(2, 3), (1, 1), (0, 3), (100, 70)]:
        given = [random.integers(0, 2, shape).astype(each.numpy) for each in DataType]
        given[-1] = np.array([b"\0" * (n % 5) for n in range(shape[0] * shape[1])], np.object_).reshape(shape)
        for array, got in zip(given, engine.execute(given), strict=True):
            assert got.dtype == array.dtype and got.shape == shape
            assert np.array_equal(got, array)
    engine.close()


def test_inputs_are_read_only_in_the_worker(start):
    source = "class Model:\n def execute(self, inputs): return {'y': [inputs['x'].flags.writeable]}"
    assert start(source, DataType.BOOL).execute([np.array([True])])[0].tolist() == [False]


def test_memory_grows_with_the_tensors_and_has_no_name(start):
    doubling = "class Model:\n def execute(self, inputs): return {'y': inputs['x'].repeat(2)}"
    engine = start(doubling, DataType.FP32)
    for size in [1, 1000, 3, 2_000_000, 1, 2_100_000]:
        given = np.arange(size, dtype=np.float32)
        (first,) = engine.execute([given])
        engine.execute([given + 1])
        assert np.array_equal(first, given.repeat(2))  # nobody wrote over it
    for pid in [os.getpid(), *engine.pids]:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        regions = [line for line in lines if "/dev/shm/yais-" in line]
        assert all(line.endswith("(deleted)") for line in regions)
    assert len(regions) == 2


def test_select_fixes_the_order(tmp_path):
    specs = tuple(TensorSpec(name, DataType.INT64, (-1,)) for name in "ab")
    source = "class Model:\n def execute(self, inputs): return {'a': inputs['b'] * 2, 'b': inputs['a'] * 3}"
    engine = WorkerEngine(model_file(tmp_path, source, inputs=specs, outputs=specs))
    engine.select(["b", "a"], ["b"])
    assert [array.tolist() for array in engine.execute([np.array([10]), np.array([1])])] == [[3]]
    engine.close()


def test_what_there_is_no_memory_for_is_refused(start, monkeypatch):
    engine = start()
    create = SharedRegion.create

    def scarce(size):
        if size > 1 << 20:
            raise ResourceExhausted(f"no {size} bytes")
        return create(size)

    monkeypatch.setattr(SharedRegion, "create", scarce)
    for expression in ["'x' * (2 << 20)", "len('" + "x" * (2 << 20) + "')"]:  # outputs, inputs
        with pytest.raises(ResourceExhausted, match=r"no [0-9]+ bytes"):
            ask(engine, expression)
        assert ask(engine, "1 + 1") == [2]


# Errors of the model


def test_errors_come_back_with_type_text_and_traceback(shared):
    with pytest.raises(PythonModelError) as caught:
        ask(shared, "raises(KeyError('k'))")
    assert str(caught.value) == "KeyError: 'k'"
    (note,) = caught.value.__notes__
    assert "model.py" in note and "in raises" in note


def test_errors_of_yais_keep_their_class(shared):
    with pytest.raises(NotFound) as caught:
        ask(shared, "raises(yais.NotFound('no row'))")
    assert str(caught.value) == "no row"


@pytest.mark.parametrize("expression", ["sys.exit(3)", "exit()"])
def test_a_model_that_exits_has_failed(shared, expression):
    with pytest.raises(PythonModelError, match="SystemExit"):
        ask(shared, expression)
    assert answers(shared)


def test_outputs_are_checked(start):
    engine = start("class Model:\n def execute(self, inputs): return {'z': [1]}", DataType.FP32)
    with pytest.raises(Internal, match=r"got outputs \['z'\], expected \['y'\]"):
        engine.execute([np.ones(1, np.float32)])


def test_what_it_prints_is_logged(shared, caplog):
    with caplog.at_level(logging.INFO, "yais.engines"):
        ask(shared, "print('to stdout')", "print('to stderr', file=sys.stderr)")
        eventually(lambda: len(caplog.records) == 2)
    records = {(record.levelname, record.getMessage()) for record in caplog.records}
    assert records == {("INFO", "model 'm': to stdout"), ("WARNING", "model 'm': to stderr")}


# Loading


def test_a_file_that_cannot_be_loaded(start):
    with pytest.raises(InvalidArgument, match=r"model\.py, line 2: ZeroDivisionError: division by zero$"):
        start("x = 1\nx / 0\n")


def test_a_file_that_crashes(start):
    with pytest.raises(Unavailable, match=r"^the worker process of model 'm' ended with exit status 5$"):
        start("import os\nos._exit(5)\n", workers=2)


@pytest.mark.parametrize("options", [{"workers": 0}, {"timeout": 0.0}, {"timeout": float("nan")}])
def test_numbers_are_above_0(start, options):
    with pytest.raises(ValueError, match="expected numbers above 0"):
        start(**options)


# Crashes


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("os._exit(3)", "ended with exit status 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL"),
        ("__import__('ctypes').string_at(0)", "was ended by SIGSEGV"),
    ],
)
def test_a_crash_fails_its_request_and_nothing_else(start, expression, text):
    engine = start()
    before = engine.pids
    assert ask(engine, "kept.append(1)", "kept") == [None, [1]]
    with pytest.raises(Unavailable, match=rf"^the worker process of model 'm' {text}$"):
        ask(engine, expression)
    with pytest.raises(
        Unavailable, match=r"^the worker process of model 'm' ended and is being started again$"
    ):
        ask(engine, "1 + 1")
    eventually(lambda: answers(engine))
    assert ask(engine, "kept") == [[]]
    assert engine.pids != before


def test_a_process_that_ends_between_requests_is_started_again(start):
    engine = start()
    os.kill(engine.pids[0], signal.SIGKILL)
    with pytest.raises(Unavailable, match="was ended by SIGKILL"):
        ask(engine, "1 + 1")
    eventually(lambda: answers(engine))


def test_a_leak_is_the_workers_own(start):
    engine = start()

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = resident()
    ask(engine, *["kept.append(bytearray(b'x') * (20 << 20))"] * 5)
    assert resident() - before < 50 << 20
    statm = Path(f"/proc/{engine.pids[0]}/statm").read_text()
    assert int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") > 100 << 20


def test_other_workers_go_on(start):
    engine = start(workers=2)
    pids = engine.pids
    with pytest.raises(Unavailable):
        ask(engine, "os._exit(1)")
    assert {ask(engine, "os.getpid()")[0] for _ in range(5)} <= set(pids)
    eventually(lambda: repr(engine) == "<WorkerEngine m: 2 of 2 processes alive>")
    assert len(set(engine.pids) & set(pids)) == 1


def test_workers_overlap(start, tmp_path):
    engine = start(workers=2)
    meeting = "[Path({mine!r}).touch(), until({other!r}), os.getpid()][-1]"
    files = [str(tmp_path / name) for name in "ab"]
    pids = []

    def call(mine, other):
        pids.extend(ask(engine, meeting.format(mine=mine, other=other)))

    callers = [threading.Thread(target=call, args=pair) for pair in (files, files[::-1])]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(SOON)
    assert sorted(pids) == sorted(engine.pids)


def test_pinned_instances_keep_their_processes(start):
    engine = start(workers=2, pinned=True)
    first, second = engine.at(0), engine.at(1)
    pids = engine.pids
    for _ in range(3):
        assert [ask(each, "os.getpid()")[0] for each in (first, second)] == pids
    with pytest.raises(Unavailable):
        ask(first, "os._exit(1)")
    with pytest.raises(Unavailable, match="is being started again"):
        ask(first, "1 + 1")
    assert ask(second, "os.getpid()") == [pids[1]]
    eventually(lambda: answers(first))
    assert ask(first, "os.getpid()") == [engine.pids[0]] and engine.pids[1] == pids[1]


def test_without_pins_any_process_will_do(start):
    engine = start(workers=2)
    assert engine.at(0) is engine.at(1) is engine


def test_a_pinned_instance_streams(start):
    engine = start(COUNTING, DataType.INT64, workers=2, pinned=True)
    results = [list(engine.at(instance).stream([np.array([2])])) for instance in (0, 1)]
    assert [[int(array[0][0]) for array in result] for result in results] == [[0, 1], [0, 1]]


def test_inputs_may_be_left_out(tmp_path):
    specs = tuple(TensorSpec(name, DataType.INT64, (-1,)) for name in "ab")
    source = "class Model:\n def execute(self, inputs): return {'y': [len(inputs), int(inputs['b'][0])]}"
    outputs = (TensorSpec("y", DataType.INT64, (-1,)),)
    engine = WorkerEngine(model_file(tmp_path, source, inputs=specs, outputs=outputs))
    assert engine.execute([None, np.array([7])])[0].tolist() == [1, 7]
    engine.close()


def test_a_model_that_cannot_be_loaded_again_is_tried_until_it_can(start, tmp_path, caplog):
    engine = start()
    good = (tmp_path / "model.py").read_text()
    (tmp_path / "model.py").write_text("1 / 0")
    with pytest.raises(Unavailable):
        ask(engine, "os._exit(1)")
    eventually(lambda: caplog.text.count("cannot start a worker process: ") >= 2)
    assert "line 1: ZeroDivisionError" in caplog.text
    (tmp_path / "model.py").write_text(good)
    eventually(lambda: answers(engine))


# Hangs


@pytest.mark.parametrize("deaf", [False, True])
def test_a_hang_is_ended(start, deaf):
    engine = start(timeout=2.0)
    before = engine.pids
    ignored = "signal.signal(signal.SIGTERM, signal.SIG_IGN)" if deaf else "None"
    text = r"^model 'm' did not answer within 2 s: its worker process was killed$"
    with pytest.raises(DeadlineExceeded, match=text):
        ask(engine, ignored, "time.sleep(3600)")
    assert not running(before[0])
    eventually(lambda: answers(engine))


def test_nobody_waits_for_a_worker_for_ever(start):
    engine = start(COUNTING, DataType.INT64, timeout=2.0)
    results = engine.stream([np.array([2])])
    next(results)  # takes the only process until the end
    with pytest.raises(DeadlineExceeded, match=r"nothing became free within 2\.0 s"):
        numbers(engine, 1)
    assert len(list(results)) == 1
    assert numbers(engine, 1) == [0]


# The end


def test_close_lets_the_model_finalize(start, tmp_path):
    engine = start(
        OBEDIENT + "\n        def finalize(self):\n            Path(__file__).with_name('done').touch()\n"
    )
    engine.close()
    assert (tmp_path / "done").exists()
    engine.close()
    with pytest.raises(Unavailable):
        ask(engine, "1 + 1")


def test_close_does_not_wait_for_ever(start, monkeypatch):
    monkeypatch.setattr(worker_engine, "_CLOSE_SECONDS", 0.3)
    engine = start(OBEDIENT + "\n        def finalize(self):\n            time.sleep(3600)\n")
    engine.close()
    assert not running(engine.pids[0])


def test_close_ends_a_process_that_is_being_started(start, tmp_path):
    engine = start()
    begun = tmp_path / "begun"
    (tmp_path / "model.py").write_text(f"open({str(begun)!r}, 'w').close()\nimport time\ntime.sleep(3600)")
    with pytest.raises(Unavailable):
        ask(engine, "os._exit(1)")
    eventually(begun.exists)
    engine.close()
    assert not running(engine.pids[0])
    assert not any(thread.name == "m-restart" for thread in threading.enumerate())


def test_what_a_worker_started_ends_with_it(start):
    engine = start()
    (pid,) = ask(engine, "subprocess.Popen(['sleep', '3600']).pid")
    assert running(pid)
    engine.close()
    eventually(lambda: not running(pid))


PARENT = """
import sys, threading, time
from pathlib import Path
import numpy as np
sys.path.append({tests!r})
from python_files import model_file
from yais.core.tensor import DataType
from yais.engines.worker_engine import WorkerEngine

if __name__ == "__main__":
    engine = WorkerEngine(model_file(Path({folder!r}), {model!r}, DataType.BYTES))
    ask = lambda text: engine.execute([np.array([text], np.object_)])
    ask(b"1")
    print(engine.pids[0], flush=True)
    if {busy!r}:
        ask(b"time.sleep(3600)")
    time.sleep(3600)
"""


@pytest.mark.parametrize("busy", [False, True])
def test_workers_end_with_the_server_however_that_ends(tmp_path, busy):
    program = PARENT.format(tests=str(Path(__file__).parent), folder=str(tmp_path), model=OBEDIENT, busy=busy)
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        pid = int(parent.stdout.readline())
        assert running(pid)
    finally:
        parent.kill()
        parent.communicate(timeout=SOON)
    eventually(lambda: not running(pid))


def forget(engines):
    engines.clear()
    gc.collect()


def test_an_engine_that_is_forgotten_leaves_no_process(tmp_path):
    engine = WorkerEngine(model_file(tmp_path, OBEDIENT, DataType.BYTES))
    (pid,) = engine.pids
    engines = [engine]
    del engine
    with pytest.warns(ResourceWarning):
        forget(engines)
    eventually(lambda: not running(pid))


# Generators


def numbers(engine, times):
    return [y.tolist()[0] for (y,) in engine.stream([np.array([times], np.int64)])]


def test_a_generator(start, caplog):
    caplog.set_level(logging.INFO, "yais.engines")
    engine = start(COUNTING, DataType.INT64, timeout=5.0)
    assert engine.decoupled
    assert [numbers(engine, times) for times in (0, 1, 3)] == [[], [0], [0, 1, 2]]
    with pytest.raises(FailedPrecondition, match="expected a call of stream"):
        engine.execute([np.array([1])])
    with pytest.raises(PythonModelError, match="KeyError: 2"):
        numbers(engine, 10)
    results = engine.stream([np.array([3])])
    next(results)
    caplog.clear()
    results.close()
    eventually(lambda: "generator ended" in caplog.text)
    assert numbers(engine, 3) == [0, 1, 2]
    with pytest.raises(Unavailable, match="ended with exit status 3"):
        numbers(engine, 4)


def test_what_answers_once_has_no_stream(shared):
    with pytest.raises(FailedPrecondition, match="expected a call of execute"):
        next(shared.stream([np.array([b"1"], np.object_)]))


def test_a_coroutine(start):
    source = """
        import asyncio

        class Model:
            async def execute(self, inputs):
                await asyncio.sleep(0)
                return {"y": inputs["x"] + 1}
    """
    assert start(source, DataType.INT64).execute([np.array([1])])[0].tolist() == [2]
