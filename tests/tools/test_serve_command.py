"""`yais serve`, as a process."""

from __future__ import annotations

import signal
import socket
import urllib.request

import numpy as np
import pytest
from onnx_models import EXAMPLES, counter, identity, write
from serving_models import SOON, Wire, count_often, count_to, eventually, infer_request, outputs_of
from yais_command import Serving, run_yais, run_yais_process, yais_serve

from yais.protocol import kserve_pb2 as pb
from yais.repository.directory import find_models

FREE = tuple(
    f"--{kind}-{what}" for kind in ("grpc", "http", "metrics") for what in ("address=127.0.0.1", "port=0")
)


def infer_simple(port):
    a, b = np.arange(32, dtype=np.int32).reshape(2, 1, 16)
    with Wire(port) as wire:
        response = wire.infer(infer_request("simple", {"INPUT0": a, "INPUT1": b}))
    np.testing.assert_array_equal(outputs_of(response)["OUTPUT0"], a + b)


def one_line_error(status, errors, expected=1):
    """Return the error a command ended with; that it is one line, and no traceback."""
    assert status == expected
    assert "Traceback" not in errors
    lines = errors.splitlines()
    assert lines[-1].startswith("Error: "), errors
    assert sum(line.startswith("Error: ") for line in lines) == 1
    return lines[-1]


def test_from_start_to_sigterm():
    with yais_serve("--model-repository", EXAMPLES, "--allow-metrics", "true") as serving:
        port, http_port, metrics_port = serving.port, serving.http_port, serving.metrics_port
        infer_simple(port)
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=SOON) as response:
            assert b"yais_inference_items_total" in response.read()
        assert serving.end(signal.SIGTERM) == (0, "")
    count = len(find_models([EXAMPLES]))
    head, rule, *rest = serving.output
    rows, rest = {row.split()[0]: row for row in rest[:count]}, rest[count:]
    assert head.split() == ["Model", "Version", "Status"]
    assert set(rule) == {"-"}
    assert rows["digits"].split()[:3] == ["digits", "1", "READY"]
    assert rows["digits"].endswith("; batch 32; image: FP32[1, 8, 8] -> probabilities: FP32[10])")
    assert rows["simple"].split()[:3] == ["simple", "1", "READY"]
    assert rest == [
        f"Started GRPCInferenceService at 127.0.0.1:{port}",
        f"Started HTTPService at 127.0.0.1:{http_port}",
        f"Started Metrics Service at 127.0.0.1:{metrics_port}",
        "Stopped",
    ]


def test_interrupt():
    with yais_serve("--model-repository", EXAMPLES) as serving:
        infer_simple(serving.port)
        assert serving.end(signal.SIGINT) == (0, "")
    assert serving.output[-1] == "Stopped"


@pytest.mark.parametrize("number", range(3))
def test_sigterm_right_after_the_start_is_told(number):
    """Whoever waits for the line may stop the server at once."""
    with yais_serve("--model-repository", EXAMPLES) as serving:
        serving.line("Started GRPCInferenceService at")
        assert serving.end(signal.SIGTERM) == (0, "")
    assert serving.output[-1] == "Stopped"


def test_sigterm_while_models_load(tmp_path):
    for number in range(300):
        write(tmp_path, f"model{number}", identity("FP32"))
    write(tmp_path, "a_broken_one", b"")
    with yais_serve("--model-repository", tmp_path) as serving:
        serving.error("failed to load 'a_broken_one'")  # the first of all
        assert serving.end(signal.SIGTERM)[0] == 0
    assert serving.output == ["Stopped"]


def test_sigterm_lets_requests_end(tmp_path):
    write(tmp_path, "counter", counter())
    with yais_serve("--model-repository", tmp_path) as serving, Wire(serving.port) as wire:
        count_often(wire)
        call = wire.method("ModelInfer").future(count_to(500_000), timeout=SOON)
        # Later on the same connection, so the server has the first one when it answers.
        assert wire.call("ServerLive").live
        assert serving.end(signal.SIGTERM) == (0, "")
        response = pb.ModelInferResponse.FromString(call.result(SOON))
        assert outputs_of(response)["counted"].tolist() == [500_000]


def test_a_second_signal_does_not_wait(tmp_path):
    patient = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 60000000 }"
    write(tmp_path, "waiting", identity("FP32"), patient)
    with yais_serve("--model-repository", tmp_path) as serving, Wire(serving.port) as wire:
        request = infer_request("waiting", {"X": np.ones((1, 1), np.float32)})
        call = wire.method("ModelInfer").future(request, timeout=SOON)
        assert wire.call("ServerLive").live
        serving.process.send_signal(signal.SIGTERM)
        eventually(lambda: not listens(serving.port))
        assert not call.done()
        assert serving.end(signal.SIGTERM)[0] == 0
        assert call.exception(SOON) is not None  # it was cut off


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("kind", ["grpc", "http", "metrics"])
def test_a_port_in_use(kind):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_yais_process("serve", "--model-store", EXAMPLES, *FREE, f"--{kind}-port", port)
    error = one_line_error(done.returncode, done.stderr)
    if kind == "http":
        assert f"127.0.0.1:{port}" in error
        assert "in use" in error
    elif kind == "grpc":
        assert error == f"Error: cannot listen on '127.0.0.1:{port}': is the address in use?"
    else:
        assert error == f"Error: cannot offer metrics on 127.0.0.1:{port}: Address already in use"
    assert "Started" not in done.stdout


@pytest.fixture
def partly_broken(tmp_path):
    write(tmp_path, "good", identity("FP32"))
    write(tmp_path, "bad", b"no model")
    write(tmp_path, "wrong", identity("FP32"), "model_operations {}")
    write(tmp_path, "empty", None)
    return tmp_path


def test_a_broken_model_keeps_no_other_from_being_served(partly_broken):
    with yais_serve("--model-repository", partly_broken) as serving:
        with Wire(serving.port) as wire:
            array = np.ones((1, 3), np.float32)
            response = wire.infer(infer_request("good", {"X": array}))
            np.testing.assert_array_equal(outputs_of(response)["Y"], array)
            assert not wire.call("ServerReady").ready
        status, errors = serving.end(signal.SIGTERM)
    assert status == 0
    table = {line.split()[0]: line for line in serving.output[2:6]}
    assert " READY (" in table["good"]
    assert "bad    1        UNAVAILABLE: ONNX Runtime cannot load the model: " in table["bad"]
    text = "UNAVAILABLE: model 'wrong' is configured with 'model_operations', which yais does not support"
    assert text in table["wrong"]
    assert table["empty"].startswith("empty  -        UNAVAILABLE: at least one version must be available")
    for name in ("bad", "wrong", "empty"):
        assert f"failed to load '{name}' version " in errors


def test_exit_on_error(partly_broken):
    done = run_yais_process("serve", "--model-repository", partly_broken, *FREE, "--exit-on-error=true")
    error = one_line_error(done.returncode, done.stderr)
    assert error.startswith(
        "Error: --exit-on-error, and models cannot be loaded: 'bad': ONNX Runtime cannot load"
    )
    assert "; 'wrong': model 'wrong' is configured with 'model_operations', which yais does not" in error
    assert "Started" not in done.stdout
    assert "UNAVAILABLE" in done.stdout


def test_exit_on_error_without_one():
    with yais_serve("--model-repository", EXAMPLES, "--exit-on-error", "1") as serving:
        assert serving.port


def test_ways_to_say_the_same(partly_broken):
    """Triton takes `--x=y` and `--x y`, and the older name of the repository."""
    arguments = ("--model-store", partly_broken, f"--model-repository={EXAMPLES}", "--id=mine")
    with yais_serve(*arguments, "--strict-readiness", "false", "--allow-metrics=0") as serving:
        infer_simple(serving.port)
        with Wire(serving.port) as wire:
            assert wire.call("ServerMetadata").name == "mine"
            assert wire.call("ServerReady").ready
        assert serving.end(signal.SIGTERM)[0] == 0
    assert not any("Metrics" in line for line in serving.output)


def test_without_http():
    with yais_serve("--model-repository", EXAMPLES, "--allow-http=false") as serving:
        assert serving.port
        assert serving.end(signal.SIGTERM) == (0, "")
    assert not any("HTTP" in line for line in serving.output)


def test_the_environment(partly_broken):
    env = {
        "YAIS_SERVE_GRPC_PORT": "0",
        "YAIS_SERVE_GRPC_ADDRESS": "127.0.0.1",
        "YAIS_SERVE_HTTP_PORT": "0",
        "YAIS_SERVE_HTTP_ADDRESS": "127.0.0.1",
        "YAIS_SERVE_ALLOW_METRICS": "false",
        "YAIS_SERVE_MODEL_REPOSITORY": f"{EXAMPLES}:{partly_broken}",
        "YAIS_SERVE_ID": "mine",
    }
    serving = Serving(env=env)
    infer_simple(serving.port)
    with Wire(serving.port) as wire:
        assert wire.call("ServerMetadata").name == "mine"
    assert serving.end(signal.SIGTERM)[0] == 0
    assert any(line.startswith("good ") for line in serving.output)


def test_an_empty_repository(tmp_path):
    with yais_serve("--model-repository", tmp_path) as serving:
        assert serving.port
        assert serving.end(signal.SIGTERM) == (0, "")
    assert serving.output[0] == "The repository has no models."


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "Missing option '--model-repository' / '--model-store'"),
        (("--model-repository", "/nowhere/at/all"), "Directory '/nowhere/at/all' does not exist"),
        (("--model-repository", EXAMPLES, "--grpc-port", "99999"), "99999 is not in the range 0<=x<=65535"),
        (("--model-repository", EXAMPLES, "--metrics-port=-1"), "-1 is not in the range 0<=x<=65535"),
        (
            ("--model-repository", EXAMPLES, "--exit-timeout-secs=-1"),
            "-1.0 is not in the range 0<=x<=31536000",
        ),
        (("--model-repository", EXAMPLES, "--exit-on-error", "maybe"), "'maybe' is not a valid boolean"),
        (("--model-repository", EXAMPLES, "--no-such-option"), "No such option '--no-such-option'"),
    ],
)
def test_what_cannot_be_asked_for(arguments, text):
    done = run_yais("serve", *arguments)
    assert text in one_line_error(done.returncode, done.stderr, expected=2)


def test_a_name_in_two_repositories():
    twice = ("--model-repository", EXAMPLES, "--model-repository", EXAMPLES)
    done = run_yais_process("serve", *twice, *FREE, "--exit-on-error=1")
    error = one_line_error(done.returncode, done.stderr)
    assert f"'digits': model 'digits' is in {EXAMPLES} and in {EXAMPLES}; " in error


@pytest.fixture
def two_models(tmp_path):
    for version in ("1", "2"):
        write(tmp_path, "first", identity("FP32"), "version_policy { all {} }", version=version)
    write(tmp_path, "second", identity("FP32"))
    return tmp_path


def test_models_that_are_loaded_at_the_start(two_models):
    options = ("--model-control-mode", "explicit", "--load-model=first", "--model-load-thread-count=1")
    with yais_serve("--model-repository", two_models, *options) as serving, Wire(serving.port) as wire:
        assert wire.call("ModelReady", pb.ModelReadyRequest(name="first")).ready
        assert not wire.call("ModelReady", pb.ModelReadyRequest(name="second")).ready
        wire.call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="second"))
        assert wire.call("ModelReady", pb.ModelReadyRequest(name="second")).ready
        assert serving.end(signal.SIGTERM) == (0, "")
    rows = [line.split()[:3] for line in serving.output if line.startswith(("first", "second"))]
    assert rows == [["first", "1", "READY"], ["first", "2", "READY"]]


def test_no_model_at_the_start(two_models):
    with yais_serve("--model-repository", two_models, "--model-control-mode=explicit") as serving:
        assert serving.port
    assert serving.output[0] == "No model is loaded yet."


def test_a_model_to_load_that_is_not_there(two_models):
    options = ("--model-control-mode", "explicit", "--load-model=none", "--exit-on-error=1", *FREE)
    done = run_yais_process("serve", "--model-repository", two_models, *options)
    text = "'none': failed to load 'none', failed to poll from model repository: no repository has"
    assert text in one_line_error(done.returncode, done.stderr)


def test_polling(two_models):
    options = ("--model-control-mode=poll", "--repository-poll-secs=0.05")
    with yais_serve("--model-repository", two_models, *options) as serving, Wire(serving.port) as wire:
        write(two_models, "third", identity("FP32"))
        eventually(lambda: wire.call("ModelReady", pb.ModelReadyRequest(name="third")).ready)
        assert serving.end(signal.SIGTERM)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--model-control-mode", "always"), "'always' is not one of 'none', 'poll', 'explicit'"),
        (("--repository-poll-secs", "0"), "0.0 is not in the range 0<x<=31536000"),
        (("--repository-poll-secs", "inf"), "inf is not in the range 0<x<=31536000"),
        (("--exit-timeout-secs=nan",), "got nan, expected a number of seconds"),
        (("--model-load-thread-count=0",), "0 is not in the range x>=1"),
        (("--load-model", "digits"), "--load-model wants --model-control-mode=explicit"),
        (("--set", "digits=1"), "got 'digits=1', expected MODEL.FIELD=VALUE"),
        (("--set", "digits.count"), "got 'digits.count', expected MODEL.FIELD=VALUE"),
        (("--backend-config", "tensorflow,x=1"), "expected onnxruntime,default-max-batch-size=N"),
        (("--backend-config=onnxruntime,default-max-batch-size=x",), "default-max-batch-size=N"),
        (("--cache-config", "redis,host=a"), "got 'redis,host=a', expected local,size=BYTES"),
        (("--cache-config", "local,size=0"), "got 'local,size=0', expected local,size=BYTES"),
        (("--rate-limit", "on"), "'on' is not one of 'execution_count', 'off'"),
        (("--rate-limit-resource", "R:1"), "--rate-limit-resource wants --rate-limit=execution_count"),
        (("--rate-limit-resource", "R"), "got 'R', expected NAME:COUNT[:DEVICE]"),
        (("--rate-limit-resource", "R:x"), "got 'R:x', expected NAME:COUNT[:DEVICE]"),
        (("--rate-limit-resource", "R:1:0:2"), "got 'R:1:0:2', expected NAME:COUNT[:DEVICE]"),
    ],
)
def test_what_cannot_be_asked_of_models(arguments, text):
    done = run_yais("serve", "--model-repository", EXAMPLES, *arguments)
    assert text in one_line_error(done.returncode, done.stderr, expected=2)


HANGS = "while True: pass"


def test_a_model_that_hangs_keeps_the_server_neither_from_others_nor_from_its_end(tmp_path):
    write(tmp_path, "good", identity("FP32"))
    tensors = (
        "input { name: 'X' data_type: TYPE_FP32 dims: 1 } output { name: 'Y' data_type: TYPE_FP32 dims: 1 }"
    )
    write(tmp_path, "hangs", HANGS.encode(), f"backend: 'python' {tensors}", filename="model.py")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with yais_serve("--model-repository", tmp_path, f"--grpc-port={port}") as serving, Wire(port) as wire:
        request = pb.ModelReadyRequest(name="good")
        wire.method("ServerLive")(b"", timeout=SOON, wait_for_ready=True)
        eventually(lambda: wire.call("ModelReady", request).ready)
        assert wire.infer(infer_request("good", {"X": np.ones((1, 3), np.float32)}))
        assert not wire.call("ServerReady").ready
        assert [row.state for row in wire.call("RepositoryIndex").models] == ["READY", "LOADING"]
        assert serving.end(signal.SIGTERM)[0] == 0
