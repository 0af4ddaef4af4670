"""`yais perf`, against live servers."""

from __future__ import annotations

import csv
import json
import queue
import re
import signal
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from onnx_models import EXAMPLES, write
from serving_models import SOON, Wire, fill, serving_models
from yais_command import YAIS, run_yais

import yais.load.schedule
from yais.client.connection import Connection
from yais.client.endpoint import connect
from yais.client.shared_regions import SharedRegions
from yais.core.clock import NANOSECONDS, monotonic
from yais.errors import Code
from yais.load.inputs import model_inputs
from yais.load.perf.calls import InputOptions, calls_of
from yais.load.perf.server_statistics import ServerStatistics, has_statistics
from yais.protocol import kserve_pb2 as pb
from yais.serving.http.options import HttpOptions

OUTPUTS = Path(__file__).parents[1] / "load" / "perf_analyzer_outputs"

QUICK = ("-p", "100", "-s", "1000000")
"""Three windows, whatever they say, so long that none is empty on a busy machine."""

ENSEMBLE = """
platform: "ensemble"
max_batch_size: 8
input [ { name: "A" data_type: TYPE_INT32 dims: 16 }, { name: "B" data_type: TYPE_INT32 dims: 16 } ]
output { name: "C" data_type: TYPE_INT32 dims: 16 }
ensemble_scheduling { step {
  model_name: "simple" model_version: -1
  input_map { key: "INPUT0" value: "A" } input_map { key: "INPUT1" value: "B" }
  output_map { key: "OUTPUT0" value: "C" }
} }
"""


REPEAT = """
class Model:
    def execute(self, inputs):
        for value in inputs["x"]:
            yield {"y": value.reshape(1)}
"""
REPEAT_CONFIG = """
backend: "python"
input { name: "x" data_type: TYPE_FP32 dims: -1 }
output { name: "y" data_type: TYPE_FP32 dims: 1 }
model_transaction_policy { decoupled: true }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    models = fill(tmp_path_factory.mktemp("models"))
    (models / "added" / "1").mkdir(parents=True)
    (models / "added" / "config.pbtxt").write_text(ENSEMBLE)
    write(models, "repeat", REPEAT.encode(), REPEAT_CONFIG, filename="model.py")
    http = HttpOptions(address="127.0.0.1", port=0)
    with serving_models(EXAMPLES, models, http=http, allow_client_shm=True) as running:
        yield running


def perf(server, model, *arguments):
    return run_yais("perf", f"127.0.0.1:{server.port}", model, *QUICK, *arguments)


def measured(server, model, *arguments):
    """Run it with --json; return the levels."""
    done = perf(server, model, "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    return json.loads(line)["levels"]


def plain(text):
    """Leave out numbers, and what depends on how busy the machine is."""
    text = re.sub(r".*\[WARNING\].*\n|.*Avg send request rate.*\n", "", text)
    text = re.sub(r"-?\d+(\.\d+)?(e\+\d+)?", "#", text)
    return re.sub(r"(  Pass .*\n)+", r"\1", text)  # more where there was a window without an answer


def inferences(server, model):
    with Wire(server.port) as wire:
        request = pb.ModelStatisticsRequest(name=model)
        return wire.call("ModelStatistics", request).model_stats[0].inference_count


# --- Output, beside that of perf_analyzer -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("grpc", ()),
        ("grpc_verbose_range", ("-v", "--concurrency-range", "1:3:2")),
        ("streaming", ("--streaming", "-a", "--concurrency-range", "4")),
        ("rates", ("-a", "--request-rate-range", "100:200:100")),
    ],
)
def test_output(server, name, arguments):
    done = perf(server, "simple", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert plain(done.stdout) == plain((OUTPUTS / f"{name}.txt").read_text())


def test_output_over_http_with_the_flags_of_perf_analyzer(server):
    done = run_yais("perf", "-m", "simple", "-i", "HTTP", "-u", f"127.0.0.1:{server.http_port}", *QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    assert plain(done.stdout) == plain((OUTPUTS / "http.txt").read_text())


def test_output_for_an_ensemble(server, tmp_path):
    done = perf(server, "added", "-f", str(tmp_path / "a.csv"))
    assert done.returncode == 0
    assert "  Composing models: \n  simple, version: 1\n      Inference count: " in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "simple_v1.a.csv"]


def test_output_for_a_decoupled_model(server):
    done = perf(server, "repeat", "--streaming", "-v", "--shape", "x:3")
    assert (done.returncode, done.stderr) == (0, "")
    assert plain(done.stdout) == plain((OUTPUTS / "decoupled.txt").read_text())


# --- What is measured ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [(), ("--streaming",), ("--shared-memory", "system"), ("--streaming", "--shared-memory", "system")],
)
def test_the_server_counts_the_same(server, arguments):
    """But for those on their way at the beginning and the end."""
    before, start = inferences(server, "simple"), monotonic()
    # So long that what passes while the server is asked is little.
    (level,) = measured(server, "simple", "-b", "4", "-t", "3", "-p", "200", *arguments)
    assert (level["concurrency"], level["stable"]) == (3, True)
    assert level["requests"] == pytest.approx(level["server"]["requests"], rel=0.2, abs=3 * 3)
    assert level["server"]["inferences"] == 4 * level["server"]["requests"]
    assert level["throughput"] == pytest.approx(4 * level["requests"] / level["seconds"])
    assert inferences(server, "simple") - before >= 4 * level["requests"]
    latency, took = level["latency_us"], level["server"]
    assert took["queue_us"] + took["compute_infer_us"] < took["request_us"] < latency["avg"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p95"] <= latency["p99"]
    # Little's law: no more are in flight.
    assert latency["avg"] / 1e6 * level["requests"] <= 3 * (monotonic() - start) / NANOSECONDS


def test_regions_of_shared_memory_are_taken_away(server):
    measured(
        server, "labelled", "--shape", "X:5", "--shared-memory", "system", "--output-shared-memory-size", "64"
    )
    with Wire(server.port) as wire:
        assert not wire.call("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest()).regions


@pytest.mark.parametrize(("distribution", "schedule"), [("constant", "Constant"), ("poisson", "Poisson")])
def test_rates(server, monkeypatch, distribution, schedule):
    asked = []

    class Known(getattr(yais.load.schedule, schedule)):
        def __init__(self, rate):
            asked.append(rate)
            super().__init__(rate)

    monkeypatch.setattr(f"yais.tools.perf_run.{schedule}", Known)
    arguments = ("--request-rate-range", "100:300:200", "--request-distribution", distribution)
    levels = measured(server, "simple", *arguments, "-p", "400")  # dozens of requests, for the rates to tell
    assert [level["request_rate"] for level in levels] == asked == [100, 300]
    assert levels[1]["throughput"] > levels[0]["throughput"]


def test_requests_in_shared_memory(server):
    with connect(Connection(f"127.0.0.1:{server.port}")) as endpoint, SharedRegions(endpoint) as regions:
        inputs = model_inputs(endpoint, "simple", "1")
        (call,) = calls_of(inputs, InputOptions(batch=2), regions)
        assert (call.model, call.version) == ("simple", "1")
        places = [tensor.data for tensor in call.inputs] + [output.shared for output in call.outputs]
        assert [place.byte_size for place in places] == [2 * 16 * 4] * 4
        inputs = model_inputs(endpoint, "labelled")
        options = InputOptions(batch=2, shapes={"X": (5,)}, output_bytes=100)
        (call,) = calls_of(inputs, options, regions)
        assert [output.shared.byte_size for output in call.outputs] == [200]


def test_answers_of_a_decoupled_model(server):
    (level,) = measured(server, "repeat", "--streaming", "--shape", "x:3")
    assert level["responses"] == pytest.approx(3 * level["requests"], rel=0.25, abs=9)


@pytest.mark.parametrize("datatype", ["bool", "fp16", "bf16", "bytes"])
def test_types_of_input(server, datatype):
    (level,) = measured(server, f"identity_{datatype}", "--shape=X:5", "-b", "2", "--string-length=9")
    assert level["requests"]


def test_input_data(server, tmp_path):
    """`table` knows 0 to 3 only."""
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"data": [{"index": [0]}, {"index": [3]}]}))
    assert measured(server, "table", "--input-data", str(path), "-b", "2")
    assert measured(server, "table", "-z")
    path.write_text(json.dumps({"data": [{"index": [0]}, {"index": [4]}]}))
    assert perf(server, "table", "--input-data", str(path)).returncode == 99
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "index").write_bytes((2).to_bytes(8, "little"))
    assert measured(server, "table", "--data-directory", str(tmp_path / "raw"))


def test_files(server, tmp_path):
    results, picture = tmp_path / "results.csv", tmp_path / "curve.svg"
    done = perf(server, "simple", "--concurrency-range", "1:2", "-f", str(results), "--plot", str(picture))
    assert done.returncode == 0
    with results.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert sorted(row["Concurrency"] for row in rows) == ["1", "2"]
    throughputs = [float(row["Inferences/Second"]) for row in rows]
    assert throughputs == sorted(throughputs)
    for row in rows:
        line = rf"Concurrency: {row['Concurrency']}, throughput: {row['Inferences/Second']} infer/sec"
        assert re.search(line, done.stdout)
    root = ET.fromstring(picture.read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_a_file_that_cannot_be_written_after_all(server):
    done = perf(server, "simple", "-f", "/dev/full")
    assert (done.returncode, done.stderr) == (99, "Error: /dev/full: No space left on device\n")
    assert "Inferences/Second vs. Client Average Batch Latency" in done.stdout


def test_statistics_of_a_server(server):
    with connect(Connection(f"127.0.0.1:{server.port}")) as endpoint:
        assert has_statistics(endpoint)
        inputs = model_inputs(endpoint, "added")
        transport = endpoint.transport()
        (call,) = calls_of(inputs, InputOptions(batch=3))
        whole = ServerStatistics(endpoint, "added", "", inputs.config)
        part = ServerStatistics(endpoint, "simple", "1", model_inputs(endpoint, "simple").config)
        start, part_start = whole.snapshot(), part.snapshot()
        assert ("digits", "1") in start
        assert list(part_start) == [("simple", "1")]
        assert whole.between(start, start) is None
        answers = queue.SimpleQueue()
        for _ in range(2):
            transport.send(transport.encode(call), lambda code, *_: answers.put(code))
            assert answers.get(timeout=SOON) == Code.OK
        counted = whole.between(start, whole.snapshot())
        assert (counted.success.count, counted.inferences) == (2, 6)
        assert counted.composing == {("simple", "1"): part.between(part_start, part.snapshot())}
        assert counted.composing["simple", "1"].success.count == 2


# --- Levels and ends ----------------------------------------------------------------------------------


def test_a_latency_that_is_too_long_ends_it(server):
    done = perf(server, "simple", "-d", "-l", "1", "-c", "60", "-t", "40", "-b", "64")
    assert done.returncode == 0
    assert done.stderr == "Measured latency went over the set limit of 1 msec. \n"
    assert "  Latency limit: 1 msec\n  Concurrency limit: 60 concurrent requests\n" in done.stdout
    assert done.stdout.endswith("\n\nRequest concurrency: 40\n")


def test_a_level_that_is_never_stable(server):
    arguments = ("-s", "0", "-r", "3", "-p", "60")
    done = perf(server, "simple", *arguments, "--concurrency-range", "1:2")
    assert done.returncode == 2
    assert done.stderr == (
        "Failed to obtain stable measurement within 3 measurement windows for concurrency 1. "
        "Please try to increase the --measurement-interval.\nFailed to obtain stable measurement.\n"
    )
    done = perf(server, "simple", *arguments, "--json")
    assert (done.returncode, json.loads(done.stdout)["levels"], json.loads(done.stdout)["status"]) == (
        2,
        [],
        2,
    )


def test_a_search_with_nothing_stable(server):
    done = perf(
        server, "simple", "-s", "0", "-r", "3", "--concurrency-range=1:9", "--binary-search", "-l99999"
    )
    assert done.returncode == 0  # as perf_analyzer has it
    assert done.stderr.startswith("Failed to obtain stable measurement within 3 measurement windows")
    assert len(done.stderr.splitlines()) == 1


def test_requests_that_fail(server):
    done = perf(server, "table", "-b", "8")
    assert done.returncode == 99
    first, second = done.stderr.splitlines()
    assert first == (
        "Failed to maintain requested inference load. "
        "Worker thread(s) failed to generate concurrent requests."
    )
    assert second.startswith("Thread [0] had error: model 'table' failed: ")


def test_windows_without_answers(server):
    """Requests for `waiting` wait for others to make a batch of."""
    done = perf(server, "waiting", "--shape", "X:1", "-r", "3")
    assert done.returncode == 99
    assert done.stderr == (
        "No valid requests recorded within time interval. Please use a larger time window.\n"
    )


def test_ctrl_c_prints_what_was_measured(server):
    command = [
        *YAIS,
        "perf",
        f"127.0.0.1:{server.port}",
        "simple",
        "-v",
        "-p",
        "300",
        "-r",
        "1000",
        "-s",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        for line in running.stdout:
            if "Pass [1]" in line:
                break
        running.send_signal(signal.SIGINT)
        rest, errors = running.communicate(timeout=SOON)
    assert (running.returncode, errors) == (130, "")
    assert "  Client: \n    Request count: " in rest
    assert re.search(r"\nConcurrency: 1, throughput: \S+ infer/sec, latency \d+ usec\n$", rest)


# --- What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "arguments", "text"),
    [
        (
            "none",
            (),
            "error: failed to get model metadata: Request for unknown model: 'none' is not found",
        ),
        ("simple", ("-x", "7"), "error: failed to get model metadata: .*version 7.*"),
        (
            "fixed",
            ("-b", "2"),
            "can not specify batch size > 1 as the model does not support batching",
        ),
        (
            "scores",
            (),
            "error: Failed to init manager inputs: input X contains dynamic shape, provide shapes to .*",
        ),
        ("simple", ("-b", "65"), "error: .*batches of at most 64"),
        ("simple", ("--shape=INPUT0:17",), "error: .*expected \\[16\\].*"),
        ("simple", ("--streaming", "--sync"), "can not use streaming with synchronous API"),
        ("repeat", ("--shape=x:1",), "Decoupled models must be run with `--async` and `--streaming` .*"),
    ],
)
def test_what_the_model_does_not_take(server, model, arguments, text):
    done = perf(server, model, *arguments)
    assert (done.returncode, done.stdout) == (99, "")
    assert re.fullmatch(f"{text}\n", done.stderr)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server_that_is_not_there(protocol):
    with serving_models(EXAMPLES) as server:
        port = server.port
    done = run_yais("perf", f"127.0.0.1:{port}", "simple", "-i", protocol)
    assert (done.returncode, done.stdout) == (99, "")
    assert re.fullmatch(r"error: failed to get model metadata: .*refused\n", done.stderr)


def test_an_address_that_is_none():
    done = run_yais("perf", "-i", "http", "-u", "nowhere", "-m", "simple")
    assert (done.returncode, done.stdout) == (99, "")
    assert done.stderr == "Error: nowhere: got address 'nowhere', expected 'host:port' for HTTP\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--bogus",), "No such option '--bogus'"),
        (("--concurrency-range", "x"), "Failed to parse --concurrency-range. Invalid value provided: x"),
        (("--concurrency-range", "1:2:3:4"), "Invalid value provided: 1:2:3:4"),
        (("--concurrency-range", "0"), "expected START and STEP above 0"),
        (("--request-rate-range", "nan"), "expected START and STEP above 0"),
        (("--request-rate-range", "inf"), "expected START and STEP above 0"),
        (("--request-rate-range", "1e8"), "none above 100000"),
        (("--concurrency-range", "1:0"), "the latency limit can not be both 0"),
        (("-d",), "the latency limit can not be both 0"),
        (("-t", "2", "--concurrency-range", "2"), "Cannot use deprecated options with --concurrency-range."),
        (
            ("--concurrency-range", "2", "--request-rate-range", "2"),
            "Cannot specify more then one inference load mode",
        ),
        (("--binary-search",), "The --latency-threshold cannot be 0 for binary search mode."),
        (("--binary-search", "--concurrency-range", "1:0", "-l", "1"), "The end of the range can not be 0"),
        (
            ("--binary-search", "--concurrency-range", "4:2", "-l", "1"),
            "The end of the range can not be less than start of the range",
        ),
        (("-t", "2", "--request-rate-range", "2"), "Cannot use concurrency options with --request-rate"),
        (("-z", "--data-directory", "/"), "The -z flag cannot be set when --data-directory is provided."),
        (("-s", "nan"), "got nan, expected a percentage"),
        (("--percentile", "0"), "The value must be -1 for not reporting or in range (0, 100)."),
        (("-i", "http", "--streaming"), "Streaming is only allowed with gRPC protocol"),
        (("--percentile", "100"), "100 is not in the range -1<=x<=99"),
        (("-b", "0"), "0 is not in the range x>=1"),
        (
            ("--input-data", "/nowhere"),
            "Failed to parse --input-data. Unsupported type provided: '/nowhere'.",
        ),
        (("--shape", "X"), "got --shape X, expected an input and sizes"),
        (("--shared-memory", "cuda"), "--shared-memory=cuda is not supported"),
        (("-f", "/nowhere/a.csv"), "expected a file that can be written"),
        (("--sequence-length", "4"), "--sequence-length is not supported: sequences are not measured"),
        (("--collect-metrics",), "--collect-metrics is not supported: "),
        (("--ssl-grpc-use-ssl", "-b", "2"), "--ssl-grpc-use-ssl is not supported: use --tls, "),
        (("--warmup-request-count", "9"), "--warmup-request-count is not supported: send some before"),
        (("--service-kind", "openai"), "--service-kind is not supported: "),
    ],
)
def test_what_cannot_be_asked_for(arguments, text):
    done = run_yais("perf", "127.0.0.1:1", "simple", *arguments)
    assert (done.returncode, done.stdout) == (99, "")
    assert text in re.sub(r"\s+", " ", done.stderr)
    assert done.stderr.startswith("Usage: ")


def test_the_service_of_triton_is_the_one_there_is(server):
    assert perf(server, "simple", "--service-kind", "triton").returncode == 0
