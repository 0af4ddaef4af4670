"""`yais bench`, on real models."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess

import pytest
from onnx import TensorProto, helper
from onnx_models import EXAMPLES, identity, model, table, tensor, write
from serving_models import SOON
from yais_command import YAIS, run_yais

from yais.core.cgroup import concurrency
from yais.core.tensor import DataType, TensorSpec
from yais.engines.kinds import EngineKind, engine_kinds
from yais.testing import FakeEngine
from yais.tools.bench_model import load_bench_model

SHORT = ("--seconds=0.1", "--warmup=0.02")

PYTHON_CONFIG = """
    backend: "python"
    max_batch_size: 8
    input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
    output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }
"""

PAIRS = """
import threading

class Model:
    def initialize(self, config):
        self.met = threading.Barrier(2)
        self.calls = 0

    def execute(self, inputs):
        self.calls += 1
        if self.calls <= 2:  # the first two executions are under way at the same time
            self.met.wait(20)
        assert inputs["X"].shape == (3, 5)
        return {"Y": inputs["X"]}
"""

DECOUPLED = """
class Model:
    def execute(self, inputs):
        yield {"Y": inputs["X"]}
"""

PIPELINE = "async def pipeline(inputs, models): return inputs"

SEQUENCES = """
    sequence_batching { control_input { name: "start"
      control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } } }
"""

ENSEMBLE = """
    input { name: "X" data_type: TYPE_FP32 dims: [ -1 ] }
    output { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] }
    ensemble_scheduling { step { model_name: "joined" model_version: -1
      input_map { key: "X" value: "X" } output_map { key: "Y" value: "Y" } } }
"""

RESHAPED = """
    max_batch_size: 8
    input { name: "X" data_type: TYPE_FP32 dims: [ 6 ] reshape { shape: [ 2, 3 ] } }
    output { name: "Y" data_type: TYPE_FP32 dims: [ 6 ] reshape { shape: [ 2, 3 ] } }
"""

OPTIONAL = """
    input [
      { name: "X" data_type: TYPE_FP32 dims: 3 },
      { name: "W" data_type: TYPE_FP32 dims: 3 optional: true }
    ]
"""

THREADS = 'parameters {{ key: "intra_op_thread_count" value {{ string_value: "{}" }} }}'

SCORES = """
    input { name: "X" data_type: TYPE_FP32 dims: [ -1, 4 ] }
    output { name: "Y" data_type: TYPE_FP32 dims: [ -1, 4 ] }
"""


def optional():
    """Return `X` + `W`, which is 0 if it is not given."""
    given = [tensor(name, "FP32", (3,)) for name in ("X", "W", "Y")]
    zeros = helper.make_tensor("W", TensorProto.FLOAT, [3], [0.0] * 3)
    return model([helper.make_node("Add", ["X", "W"], ["Y"])], given[:2], given[2:], [zeros])


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    write(root, "scores", identity("FP32"), SCORES)
    write(root, "joined", identity("FP32"), "max_batch_size: 8 dynamic_batching {}")
    write(root, "fixed", identity("INT32", (2, 3)))
    write(root, "table", table([10, 11]), "max_batch_size: 8")
    write(root, "bad", b"no model")
    write(root, "empty", None)
    write(root, "five_threads", identity("FP32"), THREADS.format(5))
    write(root, "pairs", PAIRS.encode(), PYTHON_CONFIG, filename="model.py")
    decoupled = PYTHON_CONFIG + "model_transaction_policy { decoupled: true }"
    write(root, "decoupled", DECOUPLED.encode(), decoupled, filename="model.py")
    write(root, "pipeline", PIPELINE.encode(), PYTHON_CONFIG, filename="model.py")
    write(root, "sequences", PAIRS.encode(), PYTHON_CONFIG + SEQUENCES, filename="model.py")
    write(root, "ensemble", None, ENSEMBLE)
    write(root, "reshaped", identity("FP32", (-1, 2, 3)), RESHAPED)
    write(root, "optional", optional(), OPTIONAL)
    (root / "bad.onnx").write_bytes(b"no model")
    (root / "bytes.onnx").write_bytes(identity("BYTES").SerializeToString())
    (root / "fixed.onnx").write_bytes(identity("INT32", (2, 3)).SerializeToString())
    return root


def bench(*arguments):
    return run_yais("bench", *arguments, *SHORT)


def measured(model, *arguments):
    """Run it with --json; return what it found, and check that it adds up."""
    done = bench(model, "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["model"] == str(model)
    assert found["batches"] > 0
    seconds, batches = found["seconds"], found["batches"]
    assert seconds >= 0.1
    assert found["batches_per_second"] == pytest.approx(batches / seconds)
    assert found["inferences_per_second"] == pytest.approx(batches * found["batch"] / seconds)
    assert found["ms_per_batch"] == pytest.approx(seconds * 1e3 / batches)
    latency = found["latency_ms"]
    assert list(latency) == ["p50", "p90", "p99", "max"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    assert list(found["mean_ms"]) == ["queue", "buffers", "token", "compute"]
    assert found["mean_ms"]["compute"] > 0
    assert all(value >= 0 for value in found["mean_ms"].values())
    assert found["cpu_seconds"] > 0
    plan = found["plan"]
    assert plan["host_total"] == plan["lanes"] * plan["staging"]
    return found


@pytest.mark.parametrize("batch", [1, 64])
def test_a_directory(batch):
    found = measured(EXAMPLES / "simple", f"--batch={batch}")
    (model,) = found["plan"]["models"]
    assert (model["name"], model["concurrency"], model["batch"]) == ("simple", 1, batch)
    assert (found["plan"]["tokens"], found["plan"]["lanes"], found["batch"]) == (1, 2, batch)


def test_a_file():
    """Without a configuration there is no largest batch."""
    found = measured(EXAMPLES / "simple/1/model.onnx", "--batch=100", "--concurrency=2", "--buffers=3")
    (model,) = found["plan"]["models"]
    assert (model["name"], model["concurrency"], model["batch"]) == ("model", 2, 100)
    assert (found["plan"]["tokens"], found["plan"]["lanes"]) == (2, 3)


def test_executions_overlap(models):
    """This model fails unless two of its executions do, and every input is as asked for."""
    measured(models / "pairs", "--concurrency=2", "--batch=3", "--shape=X:5")


@pytest.mark.parametrize(
    ("model", "arguments", "staging"),
    [
        ("scores", (), 4 * 4),
        ("scores", ("--shape=X:300,4",), 300 * 4 * 4),
        ("joined", ("--batch=2",), 2 * 4),
        ("fixed", ("--shape=X:2,3",), 2 * 3 * 4),
        ("fixed.onnx", (), 2 * 3 * 4),
        ("reshaped", ("--batch=2",), 2 * 2 * 3 * 4),
        ("optional", ("--shape=W:3",), 2 * 3 * 4),
        ("bytes.onnx", ("--batch=4", "--shape=X:5"), 0),
    ],
)
def test_memory_is_planned_for_the_requests(models, model, arguments, staging):
    (plan,) = measured(models / model, *arguments)["plan"]["models"]
    assert staging <= plan["staging"] <= 2 * (staging + 64)  # outputs too, in whole cache lines
    assert plan["open"] == []


def test_text():
    done = bench(EXAMPLES / "simple", "--batch=4")
    assert (done.returncode, done.stderr) == (0, "")
    *plan, batches, rates, latency, means, cpu = done.stdout.splitlines()
    assert any(line.startswith("  simple: 1 at once, batches of up to 4, ") for line in plan)
    number = r"\d+\.\d{3}"
    assert re.fullmatch(rf"\d+ batches in {number} s", batches)
    pattern = r"([\d.]+) batches/s, ([\d.]+) inferences/s, ([\d.]+) ms per batch"
    per_second, inferences, milliseconds = map(float, re.fullmatch(pattern, rates).groups())
    assert inferences == pytest.approx(4 * per_second, rel=0.01)
    assert milliseconds == pytest.approx(1e3 / per_second, rel=0.01)
    assert re.fullmatch(rf"latency in ms: p50 {number}, p90 {number}, p99 {number}, max {number}", latency)
    assert re.fullmatch(
        rf"of which, on average: queue {number}, buffers {number}, token {number}, compute {number}", means
    )
    assert re.fullmatch(rf"CPU time: {number} s, [\d.]+ CPUs", cpu)


def test_nothing_ends_in_time(tmp_path):
    """A batch that takes longer than the measurement: the report says so, and the end is waited for."""
    slow = "import time\nclass Model:\n    def execute(self, inputs):\n        time.sleep(1)\n"
    slow += "        return {'Y': inputs['X']}\n"
    write(tmp_path, "slow", slow.encode(), PYTHON_CONFIG, filename="model.py")
    done = bench(tmp_path / "slow")
    assert (done.returncode, done.stderr) == (0, "")
    batches, rates, cpu = done.stdout.splitlines()[-3:]
    assert batches.startswith("0 batches in ")
    assert rates == "0.0 batches/s, 0.0 inferences/s"
    assert cpu.startswith("CPU time")


@pytest.mark.parametrize(
    ("model", "arguments", "text"),
    [
        ("none.onnx", (), "{}: there is no such file, expected a model file or a model directory"),
        ("bad.onnx", (), "{}: ONNX Runtime cannot load the model: "),
        ("bad", (), "{}: ONNX Runtime cannot load the model: "),
        ("empty", (), "{}: at least one version must be available"),
        ("decoupled", (), "{}: model 'decoupled' is decoupled"),
        (
            "pipeline",
            (),
            (
                "{}: model 'pipeline' is a pipeline: it calls other models. Serve it, and measure it with a "
                "client"
            ),
        ),
        ("sequences", (), "{}: model 'sequences' has sequences: requests depend on those before them. Serve"),
        ("ensemble", (), "{}: model 'ensemble' is an ensemble: its steps are other models. Serve it, and"),
        ("reshaped", ("--shape=X:6",), "{}: got shape [6] for 'X', expected [2, 3] (-1: any size)"),
        (
            "pairs",
            ("--intra-op-threads=2",),
            "{}: got 2 intra-op threads for model 'pairs', which is no ONNX",
        ),
        ("joined", ("--batch=9",), "{}: got a batch of 9, but model 'joined' takes batches of at most 8"),
        ("fixed", ("--batch=2",), "{}: got a batch of 2, but model 'fixed' takes no batches"),
        ("fixed.onnx", ("--batch=2",), "{}: got a batch of 2, but model 'fixed' takes no batches"),
        ("fixed", ("--shape=Y:2,3",), "{}: got a shape for 'Y', expected one of X"),
        ("fixed", ("--shape=X:2,4",), "{}: got shape [2, 4] for 'X', expected [2, 3] (-1: any size)"),
        ("scores", ("--shape=X:1,5",), "{}: got shape [1, 5] for 'X', expected [-1, 4] (-1: any size)"),
    ],
)
def test_what_cannot_be_run(models, model, arguments, text):
    done = bench(models / model, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: " + text.format(models / model))


def test_requests_that_fail(models):
    """Not every small number is in the table, so that the engine refuses requests: one ends the run."""
    done = bench(models / "table", "--batch=8")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: {models / 'table'}: model 'table' failed: ")
    assert "batches/s" not in done.stdout


@pytest.mark.parametrize("option", ["seconds", "concurrency", "buffers", "batch", "intra-op-threads"])
def test_what_cannot_be_asked_for(option):
    done = run_yais("bench", EXAMPLES / "simple", f"--{option}=0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "0" in done.stderr and "is not in the range" in done.stderr


@pytest.mark.parametrize(
    ("model", "executions", "asked", "threads"),
    [
        ("joined", 1, None, concurrency()),
        ("joined", 1000, None, 1),
        ("joined", 1, 3, 3),
        ("five_threads", 1, None, 5),
        ("five_threads", 1, 3, 3),
        ("joined/1/model.onnx", 1, None, concurrency()),
        ("joined/1/model.onnx", 1000, None, 1),
        ("joined/1/model.onnx", 1, 3, 3),
    ],
)
def test_threads_of_onnx_runtime(models, model, executions, asked, threads):
    loaded = load_bench_model(models / model, executions=executions, threads=asked, batch=1, shapes={})
    try:
        assert loaded.engine.session.get_session_options().intra_op_num_threads == threads
    finally:
        loaded.engine.close()


@pytest.fixture
def kind(monkeypatch):
    """Have files that end in .fake loaded by a kind of engines; return what it was given."""
    x = TensorSpec("X", DataType.FP32, (-1, 4))
    given = []

    def load(path, settings):
        given.append(settings)
        return FakeEngine([x], [TensorSpec("Y", DataType.FP32, (-1, 4))], lambda x: [x])

    made = EngineKind("fake", "fake_model", "model.fake", (".fake",), load)
    kinds = {**engine_kinds(), "fake": made}
    for module in (
        "yais.tools.bench_model",
        "yais.inference.loading",
        "yais.repository.backends",
        "yais.repository.platforms",
    ):
        monkeypatch.setattr(f"{module}.engine_kinds", lambda: kinds)
    return given


def test_a_file_of_an_engine_kind(tmp_path, kind):
    """It is told of the batch, and how many run at once."""
    path = tmp_path / "mine.fake"
    path.write_text("")
    measured(path, "--batch=3", "--concurrency=2")
    (settings,) = kind
    assert (settings.name, settings.instances, settings.max_batch) == ("mine", 2, 3)
    done = bench(path, "--intra-op-threads=2")
    assert done.returncode == 1
    assert "got 2 intra-op threads for model 'mine', which is no ONNX model" in done.stderr


def test_a_directory_of_an_engine_kind(tmp_path, kind):
    config = """
        backend: "fake" max_batch_size: 4 instance_group { count: 1 kind: KIND_CPU }
        input { name: "X" data_type: TYPE_FP32 dims: 4 } output { name: "Y" data_type: TYPE_FP32 dims: 4 }
    """
    write(tmp_path, "mine", b"", config, filename="model.fake")
    measured(tmp_path / "mine", "--batch=3", "--concurrency=2")
    (settings,) = kind
    assert (settings.name, settings.instances, settings.max_batch) == ("mine", 2, 4)


def on_a_terminal(*arguments):
    """Start it with a terminal as its stderr; return the process and the terminal's other end."""
    command = [*YAIS, "bench", str(EXAMPLES / "simple"), *arguments]
    ours, theirs = pty.openpty()
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True), ours
    finally:
        os.close(theirs)


def test_progress_is_only_shown_to_people():
    """On a terminal there is a progress bar, beside the result and not in it."""
    process, terminal = on_a_terminal("--json", *SHORT)
    with process, os.fdopen(terminal, "rb", buffering=0) as shown:
        out, _ = process.communicate(timeout=SOON)
        assert "100%" in shown.read(4096).decode()
    assert json.loads(out)["batches"] > 0


def test_an_interrupt_ends_the_measurement():
    process, terminal = on_a_terminal("--json", "--seconds=600", "--warmup=0")
    with process, os.fdopen(terminal, "rb", buffering=0) as shown:
        try:
            assert shown.read(1)  # the bar: it measures
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=SOON)
        finally:
            process.kill()
    assert process.returncode == 0
    found = json.loads(out)
    assert found["seconds"] < 600
