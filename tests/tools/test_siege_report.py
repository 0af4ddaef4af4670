"""What `yais siege`, `client-sync` and `client-async` print, compared with files (`golden_files`)."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import golden_files
import pytest
from fixed_recordings import nothing, recording, troubled

from yais.load.objective import Objective
from yais.load.rate_finding import RateFound, Try
from yais.tools.arrival_options import Arrivals
from yais.tools.client_run import client_report, client_text
from yais.tools.siege_report import SiegeResult, siege_report, siege_text
from yais.tools.siege_run import live_text

same = partial(golden_files.same, folder=Path(__file__).with_name("golden"))

CONSTANT = Arrivals("constant", 500.0, None, 1.0, None, 2.0, None, search=False)
POISSON = Arrivals("poisson", 500.0, None, 1.0, None, None, 1000, search=True)
SLO = Objective.parse("p99<10ms")

FOUND = RateFound(
    500.0,
    500.0,
    recording(),
    [
        Try(2000.0, 1743.21, None, kept=False),
        Try(1000.0, 998.5, 12.3456, kept=False),
        Try(500.0, 500.1, 1.25, kept=True),
    ],
)


def result(shown, arrivals=CONSTANT, objective=None, found=None):
    return SiegeResult("127.0.0.1:8001", "simple", arrivals, shown, objective, found)


RESULTS = {
    "siege_well": result(recording()),
    "siege_troubled": result(troubled(), objective=SLO),
    "siege_nothing": result(nothing(), objective=SLO),
    "siege_found": result(recording(), POISSON, SLO, FOUND),
}


@pytest.mark.parametrize("name", RESULTS)
def test_siege_text(name):
    text = siege_text(RESULTS[name])
    assert all(len(line) <= 80 for line in text.splitlines())
    same(f"{name}.txt", text + "\n")


@pytest.mark.parametrize("name", RESULTS)
def test_siege_json(name):
    report = siege_report(RESULTS[name])
    assert "\n" not in json.dumps(report)
    same(f"{name}.json", json.dumps(report, indent=2) + "\n")


@pytest.mark.parametrize(
    ("shown", "objective", "well"),
    [
        (recording(), None, True),
        (recording(), Objective.parse("max<=1s"), False),
        (recording(), Objective.parse("p99<=990.9ms"), True),
        (troubled(), None, False),
        (recording(unsent=1), None, False),
        (troubled(), Objective.parse("p50<10s"), True),
        (nothing(), Objective.parse("p50<10s"), False),
    ],
)
def test_whether_all_is_well(shown, objective, well):
    assert result(shown, objective=objective).well is well


@pytest.mark.parametrize(
    ("arrivals", "text"),
    [
        (CONSTANT, "constant, 500/s, for 2 s"),
        (POISSON, "poisson, 500/s, for 1000 requests"),
        (
            Arrivals("linear", 10.5, -3.0, 1.0, None, 60.0, None, search=False),
            "linear, 10.5/s -3/s each minute, for 60 s",
        ),
        (
            Arrivals("cyclic", 100.0, 20.0, 2.0, None, 60.0, None, search=False),
            "cyclic, 100/s ± 20/s 2 times a minute, for 60 s",
        ),
    ],
)
def test_arrivals_in_words(arrivals, text):
    assert str(arrivals) == text


@pytest.mark.parametrize(
    ("name", "shown", "batch"),
    [("client_well", recording(), 8), ("client_troubled", troubled(), 1), ("client_nothing", nothing(), 1)],
)
def test_client(name, shown, batch):
    report = client_report(shown, batch)
    same(f"{name}.json", json.dumps(report, indent=2) + "\n")
    same(f"{name}.txt", client_text(report, 1000) + "\n")


def test_live_line():
    assert live_text(recording()) == ""
    assert live_text(troubled()) == (
        "2 s: 500/s asked, 500/s sent, 7 outstanding, UNAVAILABLE 40, DEADLINE_EXCEEDED 3, p50 1.23 p99 12 ms"
    )
