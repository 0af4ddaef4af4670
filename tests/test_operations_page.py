"""The guide to operations: its program prints what it says; its metrics and numbers are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from yais.rpc.transport import Transport
from yais.serving.http import infer as http_infer
from yais.serving.http.options import HttpOptions
from yais.serving.options import ServerOptions

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
METRICS = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")

PROGRAM = re.compile(r"```python\n(.*?)```\n\n```\n(.*?)```", re.DOTALL)


def test_the_program_prints_what_the_page_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ((program, printed),) = PROGRAM.findall(PAGE)
    monkeypatch.chdir(ROOT)
    exec(compile(program, "docs/operations.md", "exec"), {})
    assert capsys.readouterr().out == printed


def test_metrics_are_there() -> None:
    named = set(
        re.findall(r"\b(?:yais|nv|process)_[a-z_]+(?:seconds|requests|bytes|total|ratio|ready|fds)\b", PAGE)
    )
    assert len(named) > 10
    assert [name for name in sorted(named) if f"`{name}`" not in METRICS] == []


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (f"{ServerOptions().infer_contexts:,} each", "requests in flight"),
        (f"{Transport().max_waiting_calls:,} of an RPC, {Transport().max_waiting_time} s", "calls that wait"),
        (f"{http_infer._MAX_WAITING:,}, {http_infer._MAX_WAIT:.0f} s", "requests of HTTP that wait"),
        (f"{ServerOptions().gpu_executions} on each GPU", "executions of all models at once"),
    ],
)
def test_bounds_are_those_of_the_code(value: str, said: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {said}")]
    assert f"| {value}" in row


def test_a_request_over_http_is_bound_as_one_over_grpc() -> None:
    assert HttpOptions().max_requests == ServerOptions().infer_contexts


def test_times_of_the_drain_are_those_of_the_manifests() -> None:
    options = dict(line.split("=") for line in (ROOT / "k8s/base/options.env").read_text().splitlines())
    deployment = (ROOT / "k8s/base/deployment.yaml").read_text()
    delay, grace = (float(options[f"YAIS_SERVE_{name}_SECS"]) for name in ("DRAIN_DELAY", "EXIT_TIMEOUT"))
    (stop,) = re.findall(r"sleep:\s+seconds: (\d+)", deployment)
    (whole,) = re.findall(r"terminationGracePeriodSeconds: (\d+)", deployment)
    assert re.search(rf"^ +{stop} s +{delay:.0f} s, not ready, +{grace:.0f} s", PAGE, re.MULTILINE)
    assert f"{whole} s in all" in PAGE
    assert float(stop) + delay + grace + 5 <= float(whole)
