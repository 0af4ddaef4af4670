"""`yais client-sync`, against live servers."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess

import pytest
from onnx_models import EXAMPLES
from serving_models import SOON, Wire, fill, serving_models
from yais_command import YAIS, run_yais

from yais.protocol import kserve_pb2 as pb


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving_models(EXAMPLES, fill(tmp_path_factory.mktemp("models"))) as running:
        yield running


def client_sync(server, model, *arguments):
    return run_yais("client-sync", f"127.0.0.1:{server.port}", model, *arguments)


def measured(server, model, *arguments):
    """Run it with --json; return what it found, and check that it adds up."""
    done = client_sync(server, model, "--json", *arguments)
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert done.returncode == (1 if found["failed"] else 0)
    succeeded = found["requests"] - found["failed"]
    assert found["requests_per_second"] == pytest.approx(succeeded / found["seconds"])
    assert found["inferences_per_second"] == pytest.approx(succeeded * found["batch"] / found["seconds"])
    latency = found["latency_ms"]
    if succeeded:
        assert list(latency) == ["p50", "p90", "p99", "max"]
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
        assert latency["max"] <= found["seconds"] * 1000 * 1.001  # as exact as a histogram is
    else:
        assert latency is None
    assert found["failed"] == sum(error["count"] for error in found["errors"].values())
    return found


def inferences(server, model):
    with Wire(server.port) as wire:
        request = pb.ModelStatisticsRequest(name=model)
        return wire.call("ModelStatistics", request).model_stats[0].inference_count


@pytest.mark.parametrize(("model", "batch"), [("simple", 1), ("digits", 32), ("fixed", 1)])
def test_json(server, model, batch):
    before = inferences(server, model)
    found = measured(server, model, "--count", "20", f"--batch={batch}")
    assert found["address"] == f"127.0.0.1:{server.port}"
    assert (found["model"], found["batch"], found["requests"], found["failed"]) == (model, batch, 20, 0)
    assert (found["errors"], found["in_flight"]) == ({}, 1)
    assert inferences(server, model) == before + 20 * batch


def test_text(server):
    done = client_sync(server, "simple", "--count", "50", "--batch", "4")
    assert (done.returncode, done.stderr) == (0, "")
    requests, rates, latency = done.stdout.splitlines()
    assert re.fullmatch(r"50 requests in \d+\.\d{3} s, 0 failed", requests)
    inferences_per_second, per_second = re.fullmatch(
        r"([\d.]+) inferences/s, ([\d.]+) requests/s", rates
    ).groups()
    assert float(inferences_per_second) == pytest.approx(4 * float(per_second), abs=0.5)
    number = r"\d+\.\d{3}"
    assert re.fullmatch(rf"latency in ms: p50 {number}, p90 {number}, p99 {number}, max {number}", latency)


def test_a_thousand_by_default(server):
    assert measured(server, "simple")["requests"] == 1000


@pytest.mark.parametrize("datatype", ["bool", "uint8", "int64", "fp16", "fp64", "bf16", "bytes"])
def test_every_type_of_input(server, datatype):
    found = measured(server, f"identity_{datatype}", "--count=3", "--batch=2", "--shape=X:5")
    assert found["failed"] == 0


@pytest.mark.parametrize("arguments", [(), ("--shape", "X:3,4"), ("--shape=X:300,1",)])
def test_variable_dimensions(server, arguments):
    assert measured(server, "scores", "--count=2", *arguments)["failed"] == 0


def test_requests_that_fail(server):
    """Not every small number is in the table, so that some requests are refused by the engine."""
    found = measured(server, "table", "--count=3", "--batch=8")
    assert (found["requests"], found["failed"], found["latency_ms"]) == (3, 3, None)
    ((status, error),) = found["errors"].items()
    assert (status, error["count"]) == ("INTERNAL", 3)
    assert error["first"].startswith("model 'table' failed: ")
    done = client_sync(server, "table", "--count=3", "--batch=8")
    assert done.returncode == 1
    requests, rates, failed, *more = done.stdout.splitlines()
    assert requests.endswith(", 3 failed")
    assert rates == "0.0 inferences/s, 0.0 requests/s"
    assert failed.startswith("INTERNAL: 3, model 'table' failed: ")
    assert more and all(line.startswith("    ") for line in more)
    assert max(map(len, (failed, *more))) <= 80


def test_timeouts(server):
    found = measured(server, "waiting", "--count=2", "--timeout=0.2")
    assert {status: error["count"] for status, error in found["errors"].items()} == {"DEADLINE_EXCEEDED": 2}
    assert measured(server, "waiting", "--count=1", "--batch=8")["failed"] == 0


@pytest.mark.parametrize(
    ("model", "arguments", "text"),
    [
        ("none", (), "Request for unknown model: 'none' is not found"),
        ("simple", ("--batch=65",), "got a batch of 65, but model 'simple' takes batches of at most 64"),
        ("fixed", ("--batch=2",), "got a batch of 2, but model 'fixed' takes no batches"),
        ("simple", ("--shape=X:16",), "got a shape for 'X', expected one of INPUT0, INPUT1"),
        ("simple", ("--shape=INPUT0:17",), "got shape [17] for 'INPUT0', expected [16] (-1: any size)"),
        ("scores", ("--shape=X:3",), "got shape [3] for 'X', expected [-1, -1] (-1: any size)"),
    ],
)
def test_what_the_model_does_not_take(server, model, arguments, text):
    done = client_sync(server, model, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: 127.0.0.1:{server.port}: {text}\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--shape=X",), "got --shape X, expected an input and sizes, such as image:3,224,224"),
        (("--shape=X:1,b",), "got --shape X:1,b, expected an input and sizes, such as image:3,224,224"),
        (("--shape=X:-1",), "got --shape X:-1, expected an input and sizes, such as image:3,224,224"),
        (("--count=0",), "0 is not in the range x>=1"),
        (("--batch=0",), "0 is not in the range x>=1"),
        (("--timeout=0",), "0.0 is not in the range 0<x<="),
    ],
)
def test_what_cannot_be_asked_for(server, arguments, text):
    done = client_sync(server, "scores", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_is_not_there():
    with serving_models(EXAMPLES) as server:
        port = server.port
    done = run_yais("client-sync", f"127.0.0.1:{port}", "simple")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        rf"Error: 127.0.0.1:{port}: failed to connect to all addresses; .*refused\n", done.stderr
    )


def test_progress_is_only_shown_to_people(server):
    """On a terminal there is a progress line, beside the result and not in it."""
    command = [*YAIS, "client-sync", f"127.0.0.1:{server.port}", "simple", "--count=5", "--json"]
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=theirs, text=True, timeout=SOON, check=True
        )
        shown = os.read(ours, 4096).decode()
    finally:
        os.close(theirs)
        os.close(ours)
    assert json.loads(done.stdout)["requests"] == 5
    assert "5/5" in shown
