"""What gpu_check.py tells: a row for each thing to be shown with a GPU."""

from __future__ import annotations

import fnmatch
import platform
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.gpu_tables import COPY_GOAL, ORIGINAL, RUNNER_GOAL

LARGE = 1 << 20
"""Bytes from which a copy's bandwidth counts: smaller ones measure the call."""

Result = Literal["passed", "FAILED", "not run"]


@dataclass(frozen=True)
class Case:
    """A test or an example, and its outcome: "passed", "failed" or "skipped"."""

    name: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True)
class Row:
    """Something that was to be shown, whether it was, and what there is to say."""

    what: str
    result: Result
    details: str


@dataclass(frozen=True)
class Found:
    """Everything that was run; `tables` says why there are no figures where there are none.

    `why_no_tests` says the same of tests, which failed if `tests` has anything.
    """

    tests: Sequence[Case]
    why_no_tests: str
    examples: Sequence[Case]
    figures: Mapping[str, Any]
    tables: str
    simulated: bool


_TESTS = {
    "Pools of device, pinned and managed memory": "test_gpu_memory.*",
    "Streams, events, completions, graphs, device guard": "test_gpu_streams.*",
    "CUDA memory between two processes": "test_gpu_ipc.*",
    "A client's inputs on the GPU, which stay there": "test_gpu_shared_memory.*",
    "A kernel as a model: every data type, every batch, failures": "test_gpu_engines.test_a_[kf]*",
    "PyTorch callable on device memory against the CPU": "test_gpu_engines.test_a_pytorch*",
    "PyTorch exported program against the CPU: data types, dynamic batch": "test_gpu_engines.test_an_exp*",
    "ONNX Runtime's CUDA provider against the CPU: data types, dynamic batch": "test_gpu_engines.test_onnx*",
    "TensorRT against the CPU: data types, dynamic batch": "test_gpu_engines.test_tensorrt*",
    "10,000 requests over HTTP and gRPC with failures: no memory is left": "test_gpu_serving.*",
}


def read_cases(file: Path) -> list[Case]:
    """Return the tests of a JUnit file, by module and name."""
    cases = []
    for case in ET.parse(file).getroot().iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}.{case.get('name')}"
        bad = [child for child in case if child.tag in {"failure", "error"}]
        skipped = case.find("skipped")
        if bad:
            cases.append(Case(name, "failed", (bad[0].text or bad[0].get("message") or "")[-1500:]))
        elif skipped is not None:
            cases.append(Case(name, "skipped", skipped.get("message", "")))
        else:
            cases.append(Case(name, "passed"))
    return cases


def rows(found: Found) -> list[Row]:
    """Return all rows, in the order of docs/gpu.md."""
    known = [_of_tests(what, pattern, found) for what, pattern in _TESTS.items()]
    known += [_of_cases(f"`{case.name}`", [case]) for case in found.examples]
    return known + [_of_figures(what, judge, found) for what, judge in _FIGURES.items()]


def _of_tests(what: str, pattern: str, found: Found) -> Row:
    cases = [case for case in found.tests if fnmatch.fnmatchcase(case.name, pattern)]
    if not cases:
        # No test of a name that is wanted is an error of these tables, unless none ran at all.
        return Row(what, "FAILED" if found.tests else "not run", found.why_no_tests or "no such tests")
    return _of_cases(what, cases)


def _of_cases(what: str, cases: Sequence[Case]) -> Row:
    failed = [case for case in cases if case.outcome == "failed"]
    passed = [case for case in cases if case.outcome == "passed"]
    reasons = sorted({case.reason for case in cases if case.outcome == "skipped"})
    skipped = f"{len(cases) - len(failed) - len(passed)} not run: {'; '.join(reasons)}" if reasons else ""
    if failed:
        return Row(what, "FAILED", ", ".join(case.name for case in failed))
    if not passed:
        return Row(what, "not run", "; ".join(reasons))
    return Row(what, "passed", ", ".join(filter(None, (f"{len(passed)} passed", skipped))))


def _copies(figures: Mapping[str, Any]) -> tuple[bool, str] | None:
    ratios = [copy["ratio"] for copy in figures["copies"] if copy["size"] >= LARGE]
    return (min(ratios) >= COPY_GOAL, f"{min(ratios):.1%} to {max(ratios):.1%}") if ratios else None


def _runner(figures: Mapping[str, Any]) -> tuple[bool, str] | None:
    rates = figures["throughput"]
    if not rates:
        return None
    best = max(rate["bare"] for rate in rates)
    text = ", ".join(f"{rate['tokens']}: {rate['runner'] / best:.1%}" for rate in rates)
    return max(rate["runner"] for rate in rates) >= RUNNER_GOAL * best, f"tokens: {text}"


def _grpc(figures: Mapping[str, Any]) -> tuple[bool, str] | None:
    rates = figures["throughput"]
    if not rates:
        return None
    best = max(rate["bare"] for rate in rates)
    return True, ", ".join(f"{rate['tokens']}: {rate['grpc'] / best:.1%}" for rate in rates)


def _original(figures: Mapping[str, Any]) -> tuple[bool, str] | None:
    rates = {rate["tokens"]: rate["runner"] for rate in figures["throughput"]}
    if not {1, 8} <= set(rates):
        return None
    original = ORIGINAL[8][0] / ORIGINAL[1][0]
    return rates[8] > rates[1], f"8 to 1: {rates[8] / rates[1]:.2f}; the original: {original:.2f}"


def _transports(figures: Mapping[str, Any]) -> tuple[bool, str] | None:
    rates = {way["way"]: way["rate"] for way in figures["transports"]}
    if "cuda" not in rates:
        return None
    return True, ", ".join(f"{way}: {rate:.0f}/s" for way, rate in rates.items())


_FIGURES: Mapping[str, Callable[[Mapping[str, Any]], tuple[bool, str] | None]] = {
    f"Copies with pooled pinned memory at least {COPY_GOAL:.0%} of a plain loop": _copies,
    f"`InferRunner` at least {RUNNER_GOAL:.0%} of the bare engine with enough tokens": _runner,
    "gRPC against the bare engine": _grpc,
    "The original's table, 1 and 8 contexts, in shape": _original,
    "CUDA shared memory, system shared memory, bytes on the wire": _transports,
}


def _of_figures(what: str, judge: Callable[[Mapping[str, Any]], Any], found: Found) -> Row:
    if not found.figures:
        last = (found.tables.splitlines() or ["it printed nothing"])[-1]
        return Row(what, "FAILED", f"benchmarks/gpu.py failed: {last}")
    judged = judge(found.figures)
    if found.simulated:
        return Row(what, "not run", "the benchmark ran simulated; its figures mean nothing")
    if judged is None:
        return Row(what, "not run", "it was not measured")
    reached, details = judged
    return Row(what, "passed" if reached else "FAILED", details)


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")


def report(
    about: str, date: str, command: str, packages: Mapping[str, str], found: Sequence[Row], tables: str
) -> str:
    """Return the report as markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in packages.items())
    lines = ["| to be shown | | |", "| --- | --- | --- |"]
    lines += [f"| {row.what} | {row.result} | {_one_line(row.details)} |" for row in found]
    return "\n".join(
        [
            f"## {about}, {date}",
            "",
            f"    {command}",
            "",
            f"Python {platform.python_version()}, {versions}.",
            "",
            *lines,
            "",
            tables,
        ]
    )
