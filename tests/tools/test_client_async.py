"""`yais client-async`, against live servers."""

from __future__ import annotations

import json
import re

import pytest
from onnx_models import EXAMPLES
from serving_models import SOON, Wire, fill, serving_models
from yais_command import run_yais

from yais.protocol import kserve_pb2 as pb


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving_models(EXAMPLES, fill(tmp_path_factory.mktemp("models"))) as running:
        yield running


def client_async(server, model, *arguments):
    return run_yais("client-async", f"127.0.0.1:{server.port}", model, *arguments)


def inferences(server, model):
    with Wire(server.port) as wire:
        request = pb.ModelStatisticsRequest(name=model)
        return wire.call("ModelStatistics", request).model_stats[0].inference_count


@pytest.mark.parametrize("batch", [1, 4])
def test_json(server, batch):
    before = inferences(server, "simple")
    done = client_async(server, "simple", "--count=100", f"--batch={batch}", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert (found["model"], found["batch"], found["in_flight"]) == ("simple", batch, 950)
    assert (found["requests"], found["failed"], found["interrupted"]) == (100, 0, False)
    assert found["inferences_per_second"] == pytest.approx(100 * batch / found["seconds"])
    assert inferences(server, "simple") == before + 100 * batch


def test_text(server):
    done = client_async(server, "simple", "--count=100", "--max-in-flight=10")
    assert (done.returncode, done.stderr) == (0, "")
    requests, _rates, latency = done.stdout.splitlines()
    assert re.fullmatch(r"100 requests in \d+\.\d{3} s, 0 failed", requests)
    assert latency.startswith("latency in ms: p50 ")


@pytest.mark.parametrize(("in_flight", "failed", "timeout"), [(8, 0, SOON), (7, 14, 0.3)])
def test_how_many_are_in_flight(server, in_flight, failed, timeout):
    """The model waits until there are eight."""
    count = 2 * in_flight
    options = (f"--max-in-flight={in_flight}", f"--count={count}", f"--timeout={timeout}", "--json")
    done = client_async(server, "waiting", *options)
    found = json.loads(done.stdout)
    assert (done.returncode, found["requests"], found["failed"]) == (1 if failed else 0, count, failed)
    assert set(found["errors"]) == ({"DEADLINE_EXCEEDED"} if failed else set())


def test_unknown_model(server):
    done = client_async(server, "none")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: 127.0.0.1:{server.port}: Request for unknown model: 'none' is not found\n"


@pytest.mark.parametrize("option", ["--max-in-flight=0", "--count=0", "--batch=0"])
def test_what_cannot_be_asked_for(option):
    done = run_yais("client-async", "127.0.0.1:1", "simple", option)
    assert done.returncode == 2
    assert "0 is not in the range x>=1" in done.stderr
