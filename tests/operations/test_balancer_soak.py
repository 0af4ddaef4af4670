"""Everything that happens to servers in operation, for a minute: `benchmarks/operations_soak.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "operations_soak.py"

# Each thing that happens comes once; so short a run ends before memory is flat. There is less load than by
# default, since other tests may run beside it.
OPTIONS = "--minutes 1 --every 11 --engine-kills --share 0.3 --growth 0.5"


@pytest.mark.timeout(300)
def test_nothing_is_lost_and_nothing_grows(tmp_path):
    picture = tmp_path / "soak.svg"
    command = [sys.executable, SOAK, *OPTIONS.split(), "--picture", picture]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert run.stdout, run.stderr
    report = json.loads(run.stdout)
    assert report["wrong"] == []
    assert run.returncode == 0, run.stderr
    happened = {"reload", "drain", "client vanishes", "frontend killed", "engine killed"}
    assert set(report["happened"]) == happened
    assert report["answered"] + sum(report["failed"].values()) == report["sent"] > 1000
    assert set(report["failed"]) <= {"UNAVAILABLE", "UNKNOWN"}
    assert {"A: engine", "A: frontend", "A: server"} <= set(report["descriptors"])
    drawn = picture.read_text()
    assert all(f">{kind}</text>" in drawn for kind in happened)
