"""A small load of everything at once, with clients killed: `benchmarks/soak.py`, for a few seconds.

The program checks every answer and compares the idle server with how it was before; here it is said what it
must have seen for that to mean something.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"

# Enough for each kind to be there many times; so short a run ends before memory is flat.
OPTIONS = (
    "--seconds 8 --connections 20 --streams 200 --processes 2 --kill-every 1.5 --patience 40 --growth 0.5"
)


def test_nothing_is_lost_or_leaks():
    run = subprocess.run(
        [sys.executable, SOAK, *OPTIONS.split()], capture_output=True, text=True, timeout=170, check=False
    )
    assert run.stdout, run.stderr
    report = json.loads(run.stdout)
    assert report["wrong"] == []
    assert run.returncode == 0, run.stderr
    assert report["killed"] >= 2
    assert report["peak_in_flight"] >= 50
    assert report["counts"]["OK"] >= 200
    assert report["counts"]["CANCELLED"] and report["counts"]["DEADLINE_EXCEEDED"]
    assert len(report["kinds"]) == 19
    assert report["after"]["in_flight"] == report["after"]["objects"] == 0
