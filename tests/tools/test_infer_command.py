"""`yais infer`, against live servers."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gated_models import TENSORS, gates, write_gated, write_python
from onnx_models import EXAMPLES
from serving_models import SOON, eventually, fill, serving_models
from yais_command import run_yais

from yais.client.infer_call import InferAnswer
from yais.core.future import Future
from yais.core.tensor import DataType
from yais.serving.http.options import HttpOptions
from yais.tools.answer_text import answer_text

IMAGES = EXAMPLES.parent / "images" / "digits"

ONES = ",".join(["1"] * 16)

COUNTING = """
import numpy as np

class Model:
    def execute(self, inputs):
        for value in range(int(inputs["x"][0])):
            yield {"y": np.array([value], np.float32)}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = fill(tmp_path_factory.mktemp("models"))
    write_python(directory, "counting", COUNTING, TENSORS + "model_transaction_policy { decoupled: true }")
    write_gated(directory, "gated", "max_batch_size: 4")
    with serving_models(EXAMPLES, directory, http=HttpOptions("127.0.0.1", 0)) as running:
        yield running


@pytest.fixture(scope="module", params=["grpc", "http"])
def address(request, server):
    return f"127.0.0.1:{server.port}" if request.param == "grpc" else f"http://127.0.0.1:{server.http_port}"


def printed(*arguments):
    """Run it; return the lines that it prints when all is well."""
    done = run_yais("infer", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80 or "--json" in arguments
    return lines


def refused(*arguments, status=1):
    done = run_yais("infer", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_values(address):
    lines = printed(address, "simple", "--input", f"INPUT0={ONES}", "--input", f"INPUT1=[{ONES}]")
    assert lines == [
        "model simple, version 1",
        "OUTPUT0: INT32[1, 16]",
        "    [[2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2]]",
        "OUTPUT1: INT32[1, 16]",
        "    [[0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0]]",
    ]


def test_json(address):
    (line,) = printed(
        address, "simple", f"--input=INPUT0={ONES}", f"--input=INPUT1={ONES}", "--output=OUTPUT1", "--json"
    )
    assert json.loads(line) == {
        "model_name": "simple",
        "model_version": "1",
        "outputs": [{"name": "OUTPUT1", "datatype": "INT32", "shape": [1, 16], "data": [0] * 16}],
    }


@pytest.mark.parametrize("digit", range(10))
def test_images(server, digit):
    lines = printed(f"127.0.0.1:{server.port}", "digits", IMAGES / f"{digit}.png", "--classes=2")
    model, name, best, second = lines
    assert (model, name) == ("model digits, version 1", "probabilities")
    value, rest = best.split(maxsplit=1)
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    assert rest == f"({digit}) = {names[digit]}"
    assert float(value) > float(second.split()[0])


def test_images_over_http(server):
    lines = printed("-i", "HTTP", f"127.0.0.1:{server.http_port}", "digits", IMAGES / "7.png", "-c1")
    assert lines[2].endswith("(7) = seven")


def test_files_of_numpy_there_and_back(address, tmp_path):
    array = np.random.default_rng(1).random((2, 1, 8, 8), np.float32)
    np.save(tmp_path / "in.npy", array.reshape(2, 64))
    printed(address, "identity_fp32", tmp_path / "in.npy", "--save", f"Y={tmp_path / 'out.npy'}")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), array.reshape(2, 64))
    printed(address, "identity_fp32", tmp_path / "out.npy", "--save", f"Y={tmp_path / 'out.raw'}")
    assert (tmp_path / "out.raw").read_bytes() == array.tobytes()


def test_files_of_bytes_there_and_back(address, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\0")
    lines = printed(address, "identity_bytes", tmp_path / "photo.jpg", "--save", f"Y={tmp_path / 'copy.jpg'}")
    assert lines[1:] == ["Y: BYTES[1, 1]", r'    [["\\xff\\xd8\u0000"]]']
    assert (tmp_path / "copy.jpg").read_bytes() == b"\xff\xd8\0"
    assert refused(address, "identity_bytes", "--input=X=a", f"--save=Y={tmp_path / 'a.npy'}").startswith(
        f"Error: got {tmp_path}/a.npy for an output of BYTES"
    )


def test_texts_and_what_json_does_not_know(address):
    (line,) = printed(address, "identity_bytes", '--input=X=["é", "a,b"]', "--json")
    assert json.loads(line)["outputs"][0]["data"] == ["é", "a,b"]
    (line,) = printed(address, "identity_bf16", "--input=X=1.5,nan", "--json")
    assert json.loads(line)["outputs"] == [
        {"name": "Y", "datatype": "BF16", "shape": [1, 2], "data": [1.5, None]}
    ]


def test_classes_of_a_batch(address):
    lines = printed(address, "labelled", "--input=X=[[1,2,3],[9,8,7]]", "--classes=2")
    assert lines == [
        "model labelled, version 1",
        "Y, item 0",
        "    3.000000 (2)",
        "    2.000000 (1) = second:half",
        "Y, item 1",
        "    9.000000 (0) = first",
        "    8.000000 (1) = second:half",
    ]


def test_any_number_of_answers(server):
    address = f"127.0.0.1:{server.port}"
    assert printed(address, "counting", "--input=x=2") == [
        "model counting, version 1",
        "y: FP32[1]",
        "    [0.]",
        "",
        "model counting, version 1",
        "y: FP32[1]",
        "    [1.]",
    ]
    (line,) = printed(address, "counting", "--input=x=3", "--json")
    assert [answer["outputs"][0]["data"] for answer in json.loads(line)["answers"]] == [[0], [1], [2]]
    assert printed(address, "counting", "--input=x=0") == ["no answer"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("none", "--input=X=1"), "{}: Request for unknown model: 'none' is not found"),
        (
            ("simple", "-x7", "--input=INPUT0=1"),
            "{}: Request for unknown model: 'simple' version 7 is not found",
        ),
        (
            ("simple", "--input=INPUT0=1,2,3"),
            "got 3 elements for input 'INPUT0', expected 16, or that for each",
        ),
        (
            ("simple", f"--input=INPUT0={ONES}"),
            "got no input 'INPUT1' for model 'simple', expected INPUT0, INPUT1",
        ),
        (
            ("simple", IMAGES / "1.png"),
            "got a file for model 'simple', expected values for each of INPUT0, INPUT1",
        ),
        (("digits", "none.png"), "got none.png, expected an image: "),
        (("labelled", IMAGES / "1.png"), "got shape [-1] for input 'X', expected an image's: "),
        (("fixed", "--input=X=1,2,3,4,5,6", "--output=Z"), "got output 'Z', expected one of Y"),
        (("fixed", "--input=X=1,2,3,4,5,6", "--save=Z=/tmp/z"), "got output 'Z', expected one of Y"),
        (("table", "--input=index=9"), "{}: model 'table' failed: "),
        (("fixed", "--input=Q=1"), "got an input 'Q' for model 'fixed', expected X"),
    ],
)
def test_what_cannot_be_answered(server, arguments, text):
    address = f"127.0.0.1:{server.port}"
    assert refused(address, *arguments).startswith(f"Error: {text.format(address)}")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "got no MODEL, expected one"),
        (("localhost:1",), "got no MODEL, expected one"),
        (("simple",), "got no inputs, expected FILE or --input"),
        (("simple", "a.npy", "--input=INPUT0=1"), "got FILE and --input, expected one of them"),
        (("simple", "b", "c"), "got simple b c, expected [ADDRESS] MODEL [FILE]"),
    ],
)
def test_what_cannot_be_asked_for(arguments, text):
    assert refused(*arguments, status=2) == f"Error: {text}"


def test_an_input_or_an_output_twice(server, tmp_path):
    arguments = ("fixed", "--input=X=1,2,3,4,5,6", "--input=X=1,2,3,4,5,6")
    text = refused(f"127.0.0.1:{server.port}", *arguments, status=2)
    assert text == "Error: got --input X more than once"
    saves = [f"--save=Y={tmp_path / name}" for name in ("a.npy", "b.npy")]
    text = refused(f"127.0.0.1:{server.port}", *arguments[:2], *saves, status=2)
    assert text == "Error: got --save Y more than once"


def test_any_number_of_answers_over_http(server):
    text = refused(f"http://127.0.0.1:{server.http_port}", "counting", "--input=x=2")
    assert text.endswith("model 'counting' answers a request any number of times, which only gRPC can carry")


def test_bytes_that_are_long_to_write_down(address, tmp_path):
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 4)
    lines = printed(address, "identity_bytes", tmp_path / "binary")
    assert lines[1] == "Y: BYTES[1, 1]" and lines[2].endswith('..."]]')


def test_files_that_cannot_be_written(server, tmp_path):
    arguments = ("fixed", "--input=X=1,2,3,4,5,6", f"--save=Y={tmp_path / 'none' / 'a.npy'}")
    assert "expected a file that can be written" in refused(f"127.0.0.1:{server.port}", *arguments, status=2)
    assert "expected NAME=FILE" in refused(
        f"127.0.0.1:{server.port}", "fixed", "--input=X=1,2,3,4,5,6", "--save=Y", status=2
    )


def main_thread_sleeps():
    """Whether it waits for an answer in the kernel, where alone a signal wakes it.

    One that only waits for the interpreter is woken every few milliseconds.
    """
    frame = sys._current_frames()[threading.main_thread().ident]
    while frame is not None and frame.f_code is not Future.result.__code__:
        frame = frame.f_back
    before = switches()
    time.sleep(0.02)
    return frame is not None and switches() == before


def switches():
    status = Path(f"/proc/self/task/{threading.main_thread().native_id}/status").read_text()
    return status.partition("\nvoluntary_ctxt_switches")[2]


def test_ctrl_c(address):
    value = 1.0 + address.startswith("http")  # of its own: the other's may still be on its way out
    with gates["gated"].shut(value):

        def interrupt():
            gates["gated"].wait_for(1)
            eventually(main_thread_sleeps)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        with ThreadPoolExecutor(1) as pool:
            interrupting = pool.submit(interrupt)
            done = run_yais("infer", address, "gated", f"--input=x={value}")
            interrupting.result(SOON)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_a_server_that_is_not_there(scheme):
    with serving_models(EXAMPLES) as server:
        port = server.port
    text = refused(f"{scheme}127.0.0.1:{port}", "simple", "--input=INPUT0=1")
    assert text.startswith(f"Error: {scheme}127.0.0.1:{port}: ") and "refused" in text.lower()


def test_long_outputs_are_shortened():
    outputs = {"a": np.arange(100_000.0).reshape(1, 10, 100, 100), "t": np.array([b"x" * 500], np.object_)}
    lines = answer_text(InferAnswer("m", "1", "", outputs), {"a": DataType.FP64}).splitlines()
    assert lines[1] == "a: FP64[1, 10, 100, 100]"
    assert max(map(len, lines)) <= 80 and len(lines) < 25
    assert lines[-1] == f'    ["{"x" * 60}..."]'
