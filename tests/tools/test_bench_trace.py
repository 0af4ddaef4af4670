"""`yais bench --trace` and `--simulated-gpu`."""

from __future__ import annotations

import itertools
import json
from xml.etree import ElementTree as ET

import pytest
from onnx_models import EXAMPLES, identity, write
from yais_command import run_yais

SIMPLE = EXAMPLES / "simple"
SHORT = ("--seconds=0.2", "--warmup=0.02")
MS = 1000  # in the unit of Chrome's traces


def bench(*arguments, model=SIMPLE):
    return run_yais("bench", model, *SHORT, *arguments)


def traced(file, *arguments):
    """Run it with --json and --trace; return its report and the spans of the trace by group and track."""
    done = bench("--json", f"--trace={file}", *arguments)
    assert done.returncode == 0
    events = json.loads(file.read_text())["traceEvents"]
    names = {
        (event["pid"], event.get("tid")): event["args"]["name"] for event in events if "name" in event["args"]
    }
    spans = {}
    for event in events:
        if event["ph"] == "X":
            track = names[event["pid"], None], names[event["pid"], event["tid"]]
            spans.setdefault(track, []).append(event)
    return json.loads(done.stdout), done.stderr, spans


def test_a_trace_of_a_model_on_the_host(tmp_path):
    file = tmp_path / "trace.json"
    report, said, spans = traced(file, "--concurrency=2")
    executed = sum(len(each) for (group, _), each in spans.items() if group == "tokens")
    assert 0 < executed <= report["batches"] + 4
    assert said == f"{file}: {executed} batches\n"
    assert set(spans) <= {("tokens", f"token {n}") for n in range(2)} | {
        ("lanes", f"lane {n}") for n in range(4)
    }
    for each in spans.values():
        moments = sorted((span["ts"], span["ts"] + span["dur"]) for span in each)
        assert all(before[1] <= after[0] + 0.002 for before, after in itertools.pairwise(moments))


def test_a_trace_of_a_simulated_gpu(tmp_path):
    """Its work is there, with the times that were asked for; nothing takes the place of anything else."""
    stages = "copy_in=1ms,compute=4ms*2,copy_out=500us"
    report, _, spans = traced(tmp_path / "trace.json", f"--simulated-gpu={stages}", "--concurrency=2")
    assert report["plan"]["gpus"]["0"]["tokens"] == 2
    for track, least in (("copy in 0", 1), ("compute 0", 4), ("compute 1", 4), ("copy out 0", 0.5)):
        assert min(span["dur"] for span in spans["GPU", track]) >= least * MS
    assert {name for group, name in spans if group == "GPU"} == {
        "copy in 0",
        "compute 0",
        "compute 1",
        "copy out 0",
    }
    assert all(span["dur"] >= 4 * MS for span in spans["tokens", "token 0"])


def test_tokens_are_what_makes_it_faster():
    """Each is for at least 40 ms with a batch: 25 in a second, and one more at either end of the time."""
    rates = []
    for tokens in (1, 4):
        stages = "--simulated-gpu=compute=40ms*4"
        done = bench("--json", stages, f"--concurrency={tokens}", "--seconds=0.5")
        assert (done.returncode, done.stderr) == (0, "")
        rates.append(json.loads(done.stdout)["batches_per_second"])
        assert rates[-1] <= 29 * tokens
    assert rates[1] > 1.5 * rates[0]


def test_a_picture(tmp_path):
    file = tmp_path / "trace.svg"
    done = bench("--simulated-gpu=copy_in=1ms,compute=2ms", f"--trace={file}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith(f"{file}: from the middle of ")
    root = ET.fromstring(file.read_text())
    texts = {each.text for each in root.iter() if each.get("class") in {"title", "key", "mark"}}
    assert {"simple: execution tokens 1, lanes 2", "lanes", "token 0", "copy in", "compute"} <= texts


@pytest.mark.parametrize("batch", [1, 8])
def test_a_simulated_model_has_the_tensors_of_the_real_one(batch):
    done = bench("--json", "--simulated-gpu=compute=1ms", f"--batch={batch}")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    real = json.loads(bench("--json", f"--batch={batch}").stdout)
    (simulated,), (host,) = report["plan"]["gpus"]["0"]["models"], real["plan"]["models"]
    assert simulated["batch"] == host["batch"] == batch
    assert simulated["device"] >= host["staging"] > 0
    assert simulated["staging"] > host["staging"]  # outputs come through it, too


def test_models_without_a_batch_and_with_open_sizes(tmp_path):
    write(tmp_path, "fixed", identity("INT32", (2, 3)))
    write(tmp_path, "open", identity("FP32", (-1, -1)), "max_batch_size: 4")
    for name, more in (("fixed", ()), ("open", ("--shape=X:5", "--batch=4"))):
        done = bench("--simulated-gpu=compute=1ms", *more, model=tmp_path / name)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "stages",
    [
        "",
        "compute",
        "compute=5",
        "compute=5ms,compute=6ms",
        "copy=1ms",
        "compute=5ms*0",
        "compute=-1ms",
        "a=1ms,",
    ],
)
def test_stages_that_make_no_sense(stages):
    done = bench(f"--simulated-gpu={stages}")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"got {stages}, expected each stage once, as in copy_in=2ms" in " ".join(done.stderr.split())


def test_texts_are_in_no_gpus_memory(tmp_path):
    write(tmp_path, "bytes", identity("BYTES"))
    done = bench("--simulated-gpu=compute=1ms", model=tmp_path / "bytes")
    assert (done.returncode, done.stdout) == (1, "")
    assert "got tensor 'X' of BYTES, expected numbers on a simulated GPU" in done.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("trace.txt", "expected a file that ends in .json or .svg"),
        ("trace", "expected a file that ends in .json or .svg"),
        ("none/trace.svg", "expected a file that can be written"),
    ],
)
def test_files_that_cannot_be_written(tmp_path, name, said):
    """Said at once, not after the measurement."""
    done = bench("--seconds=600", f"--trace={tmp_path / name}")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in " ".join(done.stderr.replace("\n", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_show(tmp_path):
    file = tmp_path / "trace.svg"
    done = bench("--simulated-gpu=compute=1s", f"--trace={file}")
    assert done.returncode == 1
    assert f"Error: {file}: no batch ended in the measured time, there is nothing to show" in done.stderr
    assert not file.exists()
