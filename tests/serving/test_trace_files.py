"""Trace files, and the thread that writes them."""

from __future__ import annotations

import json
import resource
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_models import SOON, eventually

from yais.core.future import Future
from yais.core.tensor import DataType, TensorSpec
from yais.inference.request import InferRequest, InferResponse, ResponseForm
from yais.inference.request_trace import BatchMoments
from yais.serving import trace_file, trace_writer
from yais.serving.call_trace import CallTrace, RequestRecord
from yais.serving.trace_file import TraceFiles
from yais.serving.trace_json import rendered
from yais.serving.trace_settings import TraceSetting, TraceValues
from yais.serving.trace_writer import TraceWriter


def setting(count=-1, log_frequency=0, level=("TIMESTAMPS",)):
    return TraceSetting(TraceValues(level, 1, count, log_frequency))


def call(of=None, request=None):
    """Return the trace of a call that has ended."""
    of = of or setting()
    trace = CallTrace(of, lambda _: None)
    record = RequestRecord(trace, 0, "model", "1", request or InferRequest([], []))
    record.batch(BatchMoments(1, 1, 1, 2, 3, 4))
    done: Future[InferResponse] = Future()
    done.set_result(InferResponse(ResponseForm("model", "1", ()), "", ()))
    record.follow(done)
    return trace


def sampled(of):
    assert of.sample()
    return call(of)


def ids(path):
    return [entry["id"] for entry in json.loads(path.read_text()) if "model_name" in entry]


class Directory:
    """What a sink has written."""

    def __init__(self, path):
        self.path = path
        self.files = TraceFiles(str(path / "t"))

    def written(self):
        return {path.name: len(ids(path)) for path in sorted(self.path.iterdir())}


@pytest.fixture
def directory(tmp_path):
    directory = Directory(tmp_path)
    yield directory
    directory.files.close()


def test_a_file_is_json_at_any_time(directory):
    of, traces = setting(), []
    for number in range(3):
        traces.append(sampled(of))
        directory.files.write(traces[-1])
        assert directory.written() == {"t": number + 1}
    assert ids(directory.path / "t") == [trace.records[0].id for trace in traces]


def test_what_is_there_is_overwritten(directory):
    for name in ("t", "t.0"):
        (directory.path / name).write_text("x" * 10_000)
    directory.files.write(sampled(setting()))
    directory.files.write(sampled(setting(count=1)))
    assert directory.written() == {"t": 1, "t.0": 1}


def test_a_count_gets_a_file_of_its_own(directory):
    of = setting(count=3)
    for _ in range(3):
        assert directory.written() == {}
        directory.files.write(sampled(of))
    assert directory.written() == {"t.0": 3}


def test_what_is_left_of_a_count(directory):
    of = setting(count=3)
    directory.files.write(sampled(of))
    of.retire()
    directory.files.settle(of)
    assert directory.written() == {"t": 1}


def test_a_setting_is_complete_when_the_last_trace_has_come(directory):
    of = setting(log_frequency=5)
    first, second, third = (sampled(of) for _ in range(3))
    directory.files.write(first)
    of.retire()
    directory.files.settle(of)
    directory.files.write(second)
    assert directory.written() == {}
    of.lost()
    directory.files.settle(of)
    assert directory.written() == {"t.0": 2}
    del third


def test_closing_writes_what_is_left(directory):
    of = setting(log_frequency=5)
    directory.files.write(sampled(of))
    directory.files.close()
    assert directory.written() == {"t.0": 1}


def test_what_waits_is_bounded(directory, monkeypatch):
    of = setting(count=1000)
    monkeypatch.setattr(trace_file, "_MOST_KEPT", 3 * len(rendered(call(of))))
    for _ in range(10):
        directory.files.write(sampled(of))
    assert directory.written()["t"] >= 6


def test_a_disk_that_recovers(directory, caplog):
    missing = TraceFiles(str(directory.path / "missing" / "t"))
    for _ in range(3):
        missing.write(sampled(setting()))
    assert len(caplog.records) == 1
    (directory.path / "missing").mkdir()
    missing.write(sampled(setting()))
    missing.close()
    assert len(ids(directory.path / "missing" / "t")) == 1


@contextmanager
def no_file_larger_than(size):
    """Let writes beyond a size fail, those that begin before it in their middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("written", [0, 1])
def test_a_disk_that_is_full_in_the_middle(directory, written, caplog):
    """What is there stays an array, and goes on when there is room."""
    whole = len(rendered(call())) * written
    for _ in range(written):
        directory.files.write(sampled(setting()))
    large = sampled(setting())
    large.records[0].request_id = "x" * 100_000
    with no_file_larger_than(whole + 30_000):
        directory.files.write(large)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    if written:
        assert directory.written() == {"t": written}
    directory.files.write(sampled(setting()))
    assert directory.written() == {"t": written + 1}


# --- What is written ----------------------------------------------------------------------------------


def entries(trace):
    return json.loads(f"[{rendered(trace)}]")


@given(st.text(), st.sampled_from(["1", "17", "", "remote"]))
def test_any_names(text, version):
    request = InferRequest([], [], id=text)
    trace = CallTrace(setting(), lambda _: None)
    RequestRecord(trace, 0, text, version, request)
    head = entries(trace)[0]
    assert head["model_name"] == text
    assert head.get("request_id", "") == text
    assert str(head["model_version"]) == version


CONTENTS = [
    ("BOOL", np.array([[True, False]]), "1,0"),
    ("UINT8", np.array([[0, 255]], np.uint8), "0,255"),
    ("INT64", np.array([[-1, 2**62]]), f"-1,{2**62}"),
    ("FP16", np.array([[0.5, 3]], np.float16), "0.5,3.0"),
    ("FP32", np.array([[0.1, np.inf]], np.float32), "0.1,inf"),
    ("FP64", np.array([[0.1, 1e300]]), "0.1,1e+300"),
    ("BF16", np.array([[0x3FC0, 0xC000]], np.uint16), "1.5,-2.0"),
    ("BYTES", np.array([[b"a\x00", b'\xff"']], np.object_), '"a\x00","\\xff""'),
    ("INT32", np.empty((1, 0), np.int32), ""),
]


@pytest.mark.parametrize(("datatype", "array", "text"), CONTENTS)
@pytest.mark.parametrize("wire", [False, True])
def test_contents_by_type(datatype, array, text, wire):
    spec = TensorSpec("x", DataType(datatype), array.shape)
    data = memoryview(array.tobytes()) if wire and datatype != "BYTES" else array.reshape(-1)
    of = setting(level=("TIMESTAMPS", "TENSORS"))
    last = entries(call(of, InferRequest([spec], [data])))[-1]
    assert last["activity"] == "TENSOR_QUEUE_INPUT"
    shape = ",".join(str(size) for size in array.shape)
    assert last["tensor"] == {"name": "x", "data": text, "shape": shape, "dtype": datatype}


def test_contents_are_those_of_their_time():
    array = np.zeros((1, 2), np.int32)
    of = setting(level=("TENSORS",))
    trace = call(of, InferRequest([TensorSpec("x", DataType.INT32, (1, 2))], [array]))
    array[:] = 7
    assert entries(trace)[-1]["tensor"]["data"] == "0,0"
    assert trace.nbytes == 8


def test_contents_of_the_wrong_size():
    of = setting(level=("TENSORS",))
    trace = call(of, InferRequest([TensorSpec("x", DataType.INT32, (1, 2))], [b"\x01\x00\x00\x00\x02"]))
    assert entries(trace)[-1]["tensor"]["data"] == "1"


def test_no_moment_is_made_up():
    trace = CallTrace(setting(), lambda _: None)
    record = RequestRecord(trace, 0, "model", "1", InferRequest([], []))
    record.batch(BatchMoments(1, 5, 5, 0, 0, 6))
    names = [entry["timestamps"][0]["name"] for entry in entries(trace)[1:]]
    assert names == ["COMPUTE_START", "COMPUTE_END", "REQUEST_START"]


# --- The thread ---------------------------------------------------------------------------------------


class Slow:
    """A sink that waits until it is let go."""

    def __init__(self):
        self.go = threading.Event()
        self.begun = threading.Event()
        self.taken = []
        self.settled = []
        self.closed = 0

    def write(self, trace):
        self.begun.set()
        assert self.go.wait(SOON)
        if trace is None:
            raise AssertionError
        self.taken.append(trace)

    def settle(self, of):
        self.settled.append(of)

    def close(self):
        self.closed += 1


def test_nobody_waits_for_a_slow_sink(monkeypatch, caplog):
    """Traces for which there is no room are lost."""
    monkeypatch.setattr(trace_writer, "_MOST_WAITING", 3)
    sink = Slow()
    writer = TraceWriter(sink)
    of = setting()
    traces = [sampled(of) for _ in range(5)]
    for trace in traces:
        writer.write(trace)
    assert of.created == 3
    assert len(caplog.records) == 1
    sink.go.set()
    writer.close()
    writer.close()
    assert sink.taken == traces[:3]
    assert sink.settled == []  # what is lost is not to fill the queue of the thread instead
    assert sink.closed == 1
    writer.write(traces[0])
    assert sink.taken == traces[:3]


def test_the_last_traces_of_a_setting_may_be_lost(monkeypatch):
    monkeypatch.setattr(trace_writer, "_MOST_WAITING", 1)
    sink = Slow()
    writer = TraceWriter(sink)
    of = setting()
    for trace in [sampled(of) for _ in range(2)]:
        writer.write(trace)
        of.retire()
    sink.go.set()
    writer.close()
    assert sink.settled == [of]


def test_a_sink_that_cannot_be_closed(caplog):
    writer = TraceWriter(TraceFiles("/dev/full"))
    writer.write(sampled(setting()))
    writer.write(sampled(setting(log_frequency=2)))
    writer.close()
    assert caplog.records

    class Broken(Slow):
        def close(self):
            raise ValueError("broken")

    caplog.clear()
    TraceWriter(Broken()).close()
    assert len(caplog.records) == 1


def test_contents_that_wait_are_bounded(monkeypatch, caplog):
    monkeypatch.setattr(trace_writer, "_MOST_BYTES", 100)
    sink = Slow()
    writer = TraceWriter(sink)
    of = setting(level=("TENSORS",))
    traces = [sampled(of) for _ in range(4)]
    for trace, nbytes in zip(traces, (1000, 60, 60, 60), strict=True):
        trace.nbytes = nbytes
    writer.write(traces[0])
    writer.write(traces[1])
    assert of.created == 3
    sink.go.set()
    eventually(lambda: "0 traces waiting" in repr(writer))
    sink.go.clear()
    writer.write(traces[2])
    writer.write(traces[3])
    assert of.created == 2
    sink.go.set()
    eventually(lambda: "0 traces waiting" in repr(writer))
    sink.go.clear()
    traces[3].nbytes = 40
    writer.write(traces[2])
    writer.write(traces[3])
    sink.go.set()
    writer.close()
    assert sink.taken == [traces[0], traces[2], traces[2], traces[3]]
    assert len(caplog.records) == 1


def test_a_sink_that_fails(caplog):
    class Failing(Slow):
        def write(self, trace):
            super().write(trace)
            if len(self.taken) == 1:
                raise ValueError("broken")

    sink = Failing()
    sink.go.set()
    writer = TraceWriter(sink)
    for _ in range(2):
        writer.write(sampled(setting()))
    writer.close()
    assert len(sink.taken) == 2
    assert len(caplog.records) == 1
