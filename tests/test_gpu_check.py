"""scripts/gpu-check, and what it runs, without a GPU."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_check as gpu_check_program
from benchmarks.gpu_check_report import Case, Found, read_cases, rows
from yais.memory.cuda.toolkit import why_no_cuda

ROOT = Path(__file__).parents[1]


def gpu_check(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in {"YAIS_GPU", "YAIS_VENV"}}
    return subprocess.run(
        [ROOT / "scripts/gpu-check", *arguments],
        capture_output=True,
        text=True,
        timeout=170,
        env={**environment, "PYTHON": sys.executable},
        check=False,
    )


@pytest.mark.skipif(not why_no_cuda(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_run() -> None:
    answer = gpu_check()
    assert answer.returncode == 3
    assert answer.stdout == ""
    assert "nothing is run: " in answer.stderr


@pytest.mark.parametrize(
    ("option", "says"),
    [("--wheels", "expected a directory with wheels"), ("--output", "a directory that is there")],
)
def test_what_cannot_be_used_is_said_first(option: str, says: str, tmp_path: Path) -> None:
    answer = gpu_check(option, str(tmp_path / "nowhere" / "it"))
    assert (answer.returncode, answer.stdout) == (2, "")
    assert says in " ".join(answer.stderr.split())


def test_everything_that_a_fake_can_show_is_shown(tmp_path: Path) -> None:
    """The tests for GPUs and the benchmark are right, as far as that can be told without one."""
    answer = gpu_check("--simulate", "--output", str(tmp_path / "report.md"))
    assert answer.returncode == 0, answer.stderr
    text = (tmp_path / "report.md").read_text()
    assert text.strip() == answer.stdout.strip()
    shown = text.partition("python benchmarks/gpu.py")[0]
    results = dict(re.findall(r"^\| (.+?) \| (passed|FAILED|not run) \|", shown, re.MULTILINE))
    passed = [what for what, result in results.items() if result == "passed"]
    assert [what.partition(" ")[0] for what in passed] == ["Pools", "Streams,", "A", "10,000"]
    assert "FAILED" not in results.values()
    assert len(results) == 17
    figures = re.findall(r"^.*\(SIMULATED\)$", text, re.MULTILINE)
    assert len(figures) == 4


FIGURES: dict[str, Any] = {
    "copies": [{"size": 1 << 16, "ratio": 0.5}, {"size": 1 << 24, "ratio": 0.97}],
    "throughput": [
        {"tokens": 1, "bare": 900, "runner": 800, "grpc": 700},
        {"tokens": 8, "bare": 2000, "runner": 1950, "grpc": 1000},
    ],
    "transports": [{"way": "wire", "rate": 500}, {"way": "cuda", "rate": 900}],
}


TESTS = [
    Case(f"{file.stem}.{name}", "passed")
    for file in sorted((ROOT / "tests/gpu").glob("test_*.py"))
    for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
]


def results(**changes: Any) -> dict[str, str]:
    given = {"tests": TESTS, "why_no_tests": "", "examples": [Case("e.py", "passed")], "figures": FIGURES}
    found = Found(**{**given, "tables": "", "simulated": False, **changes})
    return {row.what: row.result for row in rows(found)}


def test_all_is_well() -> None:
    assert set(results().values()) == {"passed"}


def test_every_test_that_fails_is_in_one_row() -> None:
    for case in TESTS:
        tests = [Case(each.name, "failed" if each is case else "passed") for each in TESTS]
        assert list(results(tests=tests).values()).count("FAILED") == 1, case.name


@pytest.mark.parametrize(
    ("part", "change", "what"),
    [
        ("copies", [{"size": 1 << 24, "ratio": 0.89}], "Copies"),
        ("throughput", [{"tokens": 8, "bare": 1000, "runner": 940, "grpc": 1}], "`InferRunner`"),
    ],
)
def test_a_goal_that_is_missed_fails(part: str, change: Any, what: str) -> None:
    failed = [
        name for name, result in results(figures={**FIGURES, part: change}).items() if result == "FAILED"
    ]
    assert [name.partition(" ")[0] for name in failed] == [what]


def test_what_was_not_run_is_said() -> None:
    tests = [Case("test_gpu_memory.a", "skipped", "why"), Case("test_gpu_streams.a", "failed", "how")]
    found = results(
        tests=tests, figures={**FIGURES, "transports": []}, examples=[Case("e.py", "skipped", "x")]
    )
    assert found["Pools of device, pinned and managed memory"] == "not run"
    assert found["Streams, events, completions, graphs, device guard"] == "FAILED"
    assert found["CUDA memory between two processes"] == "FAILED"  # there is no test of it any more
    assert found["`e.py`"] == "not run"
    assert found["CUDA shared memory, system shared memory, bytes on the wire"] == "not run"


def test_without_tests_or_figures() -> None:
    found = results(tests=[], why_no_tests="pytest is not installed", figures={}, tables="it broke")
    assert found["CUDA memory between two processes"] == "not run"
    assert found["gRPC against the bare engine"] == "FAILED"


def test_tests_that_crash_have_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What writes the outcomes is then not there any more."""

    def run(command: list[str], *_: object) -> tuple[int, str]:
        return (-11, "Segmentation fault") if "tests/gpu" in command else (0, "")

    monkeypatch.setattr(gpu_check_program, "run", run)
    cases, why = gpu_check_program.tests({}, tmp_path, simulated=False)
    found = results(tests=cases, why_no_tests=why)
    assert why == "pytest ended with -11: Segmentation fault"
    assert found["Streams, events, completions, graphs, device guard"] == "FAILED"


def test_what_is_interrupted_does_not_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []

    class Interrupted(subprocess.Popen[str]):
        def communicate(self, *_: Any, **__: Any) -> Any:
            started.append(self)
            raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        gpu_check_program.run([sys.executable, "-c", "import signal; signal.pause()"], 50, dict(os.environ))
    with started[0] as process:
        assert process.wait(50) == -signal.SIGKILL


def test_outcomes_are_read(tmp_path: Path) -> None:
    file = tmp_path / "tests.xml"
    file.write_text(
        '<testsuites><testsuite><testcase classname="tests.gpu.test_gpu_memory" name="a[1]"/>'
        '<testcase classname="tests.gpu.test_gpu_memory" name="b"><skipped message="why"/></testcase>'
        '<testcase classname="tests.gpu.test_gpu_ipc" name="c"><error message="m">how</error></testcase>'
        "</testsuite></testsuites>"
    )
    assert read_cases(file) == [
        Case("test_gpu_memory.a[1]", "passed"),
        Case("test_gpu_memory.b", "skipped", "why"),
        Case("test_gpu_ipc.c", "failed", "how"),
    ]
