"""`yais siege`, against live servers."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from echo_pb2 import DESCRIPTOR, EchoReply, EchoRequest
from onnx_models import EXAMPLES
from serving_models import SOON, Wire, fill, serving_models
from yais_command import YAIS, run_yais

import yais
from yais.protocol import kserve_pb2 as pb
from yais.testing import serving

SAY = "/yais.examples.echo.Echo/Say"
BACK_OFF = "Initiated Backoff - (Siege Rate > Server Compute Rate) - Server Queues are full.\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving_models(EXAMPLES, fill(tmp_path_factory.mktemp("models"))) as running:
        yield running


class Slow(yais.Context[EchoRequest, EchoReply, yais.Resources]):
    """Answers 100 requests/s; keeps what it was sent."""

    texts: list[str] = []
    turn = threading.Lock()

    def execute(self, request: EchoRequest) -> EchoReply:
        self.texts.append(request.text)
        with self.turn:
            time.sleep(0.01)
        return EchoReply(text=request.text)


@pytest.fixture(scope="module")
def slow():
    service = yais.Service(DESCRIPTOR.services_by_name["Echo"])
    service.register("Say", Slow, contexts=100)
    with serving(service) as served:
        yield served


def siege(server, model, *arguments):
    return run_yais("siege", f"127.0.0.1:{server.port}", model, *arguments)


def measured(server, model, *arguments, status=0):
    """Run it with --json; return what it found, and check that it adds up."""
    done = siege(server, model, "--json", *arguments)
    assert (done.returncode, done.stderr) == (status, "")
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    asked = found["scheduled"] / found["seconds"]
    if found["rate_asked"] > asked:  # the last of a number of requests was sent late
        assert any(argument.startswith("--count") for argument in arguments)
    else:
        assert found["rate_asked"] == pytest.approx(asked)
    assert found["rate_sent"] == pytest.approx(found["sent"] / found["seconds"])
    assert found["sent"] == found["scheduled"] - found["unsent"] == found["completed"] + found["failed"]
    assert sum(found["statuses"].values()) == found["sent"]
    if found["completed"]:
        for latency in (found["latency_ms"], found["service_ms"]):
            assert list(latency) == ["p50", "p90", "p95", "p99", "p99.9", "max"]
            assert latency["p50"] > 0
            assert list(latency.values()) == sorted(latency.values())
        assert found["service_ms"]["max"] <= found["latency_ms"]["max"]
    else:
        assert (found["latency_ms"], found["service_ms"]) == (None, None)
    return found


def inferences(server, model):
    with Wire(server.port) as wire:
        request = pb.ModelStatisticsRequest(name=model)
        return wire.call("ModelStatistics", request).model_stats[0].inference_count


@pytest.mark.parametrize(("model", "batch"), [("simple", 1), ("digits", 4), ("fixed", 1)])
def test_json(server, model, batch):
    before = inferences(server, model)
    found = measured(server, model, "--rate=200", "--count=20", f"--batch={batch}")
    assert (found["address"], found["model"]) == (f"127.0.0.1:{server.port}", model)
    assert (found["func"], found["interrupted"], found["errors"]) == ("constant", False, {})
    assert (found["scheduled"], found["statuses"]) == (20, {"OK": 20})
    assert "objective" not in found
    assert inferences(server, model) == before + 20 * batch


def test_duration(server):
    found = measured(server, "simple", "--rate=100", "--duration=0.3")
    assert (found["scheduled"], found["seconds"]) == (30, pytest.approx(0.3))
    assert found["rate_asked"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("arguments", "scheduled"),
    [
        (["--func=linear", "--alpha=6000"], 23),  # 20/s and 100/s more each second: 22.5 in half of one
        (["--func=cyclic", "--alpha=40", "--beta=60"], 23),  # the first half of a swing
        (["--func=poisson", "--seed=3"], 10),
    ],
)
def test_other_arrivals(server, arguments, scheduled):
    found = measured(server, "simple", "--rate=20", "--duration=0.5", *arguments)
    assert found["scheduled"] == scheduled
    assert f"--func={found['func']}" == arguments[0]


def test_text(server):
    done = siege(server, "simple", "--rate=100", "--count=10", "--slo=p99<10s")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"simple at 127.0.0.1:{server.port}: constant, 100/s, for 10 requests"
    assert re.fullmatch(r"requests +10 +10 +10 +0", lines[3])
    assert re.fullmatch(r"since due( +\d+\.\d{3}){6}", lines[9])
    assert re.fullmatch(r"p99<10s: kept, \d+\.\d{3} ms", lines[-1])
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 20_000])
def test_a_method(slow, size):
    Slow.texts.clear()
    found = measured(slow, SAY, "--rate=100", "--count=3", f"--bytes={size}B")
    assert found["completed"] == 3
    assert Slow.texts == ["x" * size] * 4  # one before, to see that it is there


@pytest.mark.parametrize(("model", "shape"), [("identity_int64", [256]), ("labelled", [512])])
def test_bytes_of_a_model(server, model, shape):
    assert measured(server, model, "--rate=100", "--count=2", "--bytes=2KiB")["completed"] == 2
    refused = siege(server, model, "--bytes=2KiB", f"--shape=X:{shape[0] + 1}")
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        f"Error: 127.0.0.1:{server.port}: got 2048 bytes for the inputs, expected "
    )


def test_input_data(server, tmp_path):
    file = tmp_path / "data.json"
    file.write_text(
        json.dumps({"data": [{"index": [1]}, {"index": [7]}]})
    )  # of which only one is in the table
    found = measured(server, "table", "--rate=100", "--count=4", f"--input-data={file}", status=1)
    assert found["statuses"] == {"OK": 2, "INTERNAL": 2}


def test_input_data_of_a_directory(server, tmp_path):
    (tmp_path / "X").write_bytes(bytes(12))
    arguments = ("labelled", "--rate=100", "--count=2", f"--input-data={tmp_path}")
    assert measured(server, *arguments, "--shape=X:3")["completed"] == 2
    assert siege(server, *arguments, "--shape=X:4").returncode == 1


@pytest.mark.parametrize(
    ("slo", "kept"), [("p99<10s", True), ("max<=10s", True), ("p50<1us", False), ("avg<1us", False)]
)
def test_objectives_decide_the_status(server, slo, kept):
    found = measured(server, "simple", "--rate=100", "--count=5", f"--slo={slo}", status=0 if kept else 1)
    objective = found["objective"]
    assert (objective["slo"], objective["kept"]) == (slo, kept)
    assert objective["value_ms"] > 0


def test_requests_that_fail(server):
    """They make the status, and count as slower than any objective, unless that allows for them."""
    arguments = ("table", "--rate=100", "--count=3", "--batch=8")
    found = measured(server, *arguments, status=1)
    assert (found["statuses"], found["latency_ms"]) == ({"INTERNAL": 3}, None)
    assert found["errors"]["INTERNAL"]["first"].startswith("model 'table' failed: ")
    found = measured(server, *arguments, "--slo=p99<10s", status=1)
    assert found["objective"] == {"slo": "p99<10s", "value_ms": None, "kept": False}


def test_a_server_that_does_not_keep_up(server):
    """With two outstanding and none answered before the timeout, the others wait their turn."""
    options = ("--timeout=0.2", "--max-outstanding=2", "--json")
    done = siege(server, "waiting", "--rate=100", "--count=6", *options)
    assert (done.returncode, done.stderr) == (1, BACK_OFF)
    found = json.loads(done.stdout)
    assert found["statuses"] == {"DEADLINE_EXCEEDED": 6}
    assert (found["held_back"], found["unsent"]) == (4, 0)
    done = siege(server, "waiting", "--rate=100", "--duration=0.1", *options)
    found = json.loads(done.stdout)
    assert (done.returncode, found["scheduled"], found["sent"], found["unsent"]) == (1, 10, 2, 8)


def test_latency_is_from_when_a_request_was_due(slow):
    """At three times the rate of the server, those that come late have waited the longest."""
    done = siege(slow, SAY, "--rate=300", "--count=30", "--max-outstanding=1", "--json")
    assert (done.returncode, done.stderr) == (0, BACK_OFF)
    found = json.loads(done.stdout)
    assert found["held_back"] > 20
    assert found["latency_ms"]["max"] > 180  # the last is due after 97 ms, and answered after 300 ms
    assert found["service_ms"]["p50"] < found["latency_ms"]["p50"]


def test_files(server, tmp_path):
    files = {kind: tmp_path / f"a.{kind}" for kind in ("csv", "hgrm", "report")}
    options = [f"--{kind}={file}" for kind, file in files.items()]
    measured(server, "simple", "--rate=100", "--count=7", "--slo=p99<10s", *options)
    (row,) = csv.DictReader(files["csv"].read_text().splitlines())
    assert (row["scheduled"], row["completed"]) == ("7", "7")
    assert re.search(r"TotalCount += +7\.000\]", files["hgrm"].read_text())
    page = files["report"].read_text()
    assert f"simple at 127.0.0.1:{server.port}" in page
    assert "at most 950" in page
    assert "p99&lt;10s" in page


def test_a_file_that_cannot_be_written_in_the_end(server):
    """The result is not lost."""
    done = siege(server, "simple", "--count=1", "--csv=/dev/full")
    assert (done.returncode, done.stderr) == (1, "Error: /dev/full: No space left on device\n")
    assert done.stdout.startswith(f"simple at 127.0.0.1:{server.port}: constant, 1/s, for 1 request\n")
    assert "since sent" in done.stdout


def test_the_highest_rate(slow, monkeypatch):
    """The server answers 100/s."""
    monkeypatch.setattr("yais.tools.siege._TOLERANCE", 0.1)
    found = measured(slow, SAY, "--find-max-qps", "--slo=p90<250ms", "--rate=40", "--count=60", "--seed=1")
    assert found["func"] == "poisson"
    rates = {one["rate"]: one["kept"] for one in found["tries"]}
    assert found["max_qps"] == max(rate for rate, kept in rates.items() if kept)
    assert 0 < found["max_qps"] < 1000
    assert any(not kept for kept in rates.values())
    assert found["objective"]["kept"]


def test_no_rate_that_keeps_the_objective(server):
    options = ("--find-max-qps", "--slo=avg<1us", "--rate=4", "--duration=0.01")
    found = measured(server, "simple", *options, status=1)
    assert found["max_qps"] is None
    assert [one["rate"] for one in found["tries"]] == [4, 2, 1]
    done = siege(server, "simple", *options)
    assert done.stdout.startswith("highest rate with avg<1us: none\n")
    assert f"simple at 127.0.0.1:{server.port}: poisson, 1/s, for 0.01 s\n" in done.stdout


def test_all_rates_keep_the_objective(server):
    done = siege(server, "simple", "--find-max-qps", "--slo=p99<100s", "--count=2", "--rate=30000", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["max_qps"] == 100_000
    assert [one["rate"] for one in found["tries"]] == [30_000, 60_000, 100_000]


@pytest.mark.parametrize(
    ("model", "arguments", "text"),
    [
        ("none", (), "Request for unknown model: 'none' is not found"),
        ("/no.Such/Method", (), "Method not found: /no.Such/Method"),
        ("simple", ("--batch=65",), "got a batch of 65, but model 'simple' takes batches of at most 64"),
        ("simple", ("--bytes=1",), "got 1 bytes for the inputs, expected 128"),
    ],
)
def test_what_the_server_does_not_take(server, model, arguments, text):
    done = siege(server, model, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: 127.0.0.1:{server.port}: {text}\n"


@pytest.mark.parametrize("model", ["simple", SAY])
def test_a_server_that_is_not_there(model):
    with serving_models(EXAMPLES) as server:
        port = server.port
    done = run_yais("siege", f"127.0.0.1:{port}", model)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        rf"Error: 127.0.0.1:{port}: failed to connect to all addresses; .*refused\n", done.stderr
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--count=1", "--duration=1"), "got --count and --duration, expected one of them"),
        (("--func=linear",), "--func linear wants --alpha"),
        (("--func=cyclic",), "--func cyclic wants --alpha"),
        (("--find-max-qps",), "--find-max-qps wants --slo"),
        (("--slo=p99",), "got 'p99', expected pN, avg or max"),
        (("--bytes=many",), "got 'many', expected a size such as 64, 10kB or 4KiB"),
        (("--input-data=none.json",), "got --input-data none.json, expected random, zero or a path"),
        (("--input-data=/", "--bytes=3"), "--bytes is for inputs that are made up"),
        (("--shape=X",), "got --shape X, expected an input and sizes"),
        (("--rate=0",), "0.0 is not in the range 1e-06<=x<=100000"),
        (("--rate=1e9",), "1000000000.0 is not in the range 1e-06<=x<=100000"),
        (("--rate=nan",), "got nan, expected a positive number of requests/s"),
        (("--duration=nan",), "got nan, expected a number of seconds"),
        (("--duration=inf",), "inf is not in the range 0<x<="),
        (("--bytes=100TB",), "got --bytes of 100000000000000, expected less than 2 GiB"),
        (("--max-outstanding=0",), "0 is not in the range x>=1"),
        (("--csv=/nowhere/a.csv",), "got /nowhere/a.csv, expected a file that can be written"),
        (("--report=/",), "got /, expected a file that can be written"),
    ],
)
def test_what_cannot_be_asked_for(arguments, text):
    done = run_yais("siege", "127.0.0.1:1", "simple", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in " ".join(done.stderr.split())


def test_models_and_methods_are_asked_for_in_different_ways(server):
    done = siege(server, SAY, "--batch=2")
    assert done.returncode == 2
    assert "--batch, --shape and --input-data are for models, not methods" in done.stderr


def test_interrupted_on_a_terminal(server):
    """There is a live line, beside the result and not in it; Ctrl-C shows what there is. gRPC is set up."""
    command = [*YAIS, "siege", f"127.0.0.1:{server.port}", "simple", "--rate=100", "--duration=60", "--json"]
    without = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=without) as running:
            shown = b""
            while b"100/s asked" not in shown:
                shown += os.read(ours, 4096)
            environment = Path(f"/proc/{running.pid}/environ").read_bytes()
            running.send_signal(signal.SIGINT)
            output, _ = running.communicate(timeout=SOON)
    finally:
        os.close(theirs)
        os.close(ours)
    assert running.returncode == 130
    found = json.loads(output)
    assert found["interrupted"] and 0 < found["completed"] < 6000
    assert b"GRPC_EXPERIMENTS=-event_engine_client" in environment
    assert b"GRPC_VERBOSITY=NONE" in environment


def test_interrupted_before_the_first_request():
    """The server does not even answer what is asked before."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(SOON)
        command = [*YAIS, "siege", f"127.0.0.1:{silent.getsockname()[1]}", "simple"]
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running,
            silent.accept()[0],
        ):
            running.send_signal(signal.SIGINT)
            told = running.communicate(timeout=SOON)
    assert (running.returncode, *told) == (130, "", "")
