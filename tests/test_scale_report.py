"""What `benchmarks/scale.py` makes of its measurements."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.scale_report import Key, Scaled, figures, reached, throughput_picture

SINGLE = Scaled(
    rate=1000.0, p50=1.0, p99=2.0, batch=1.0, generator=10.0, cpu=100.0, frontends=0.0, engine=0.0
)


def with_frontends(rate: float, engine: float) -> Scaled:
    return Scaled(rate, 1.0, 2.0, 1.0, 10.0, cpu=engine + 60.0, frontends=60.0, engine=engine)


RESULTS = {
    Key("simple", 32, 0): SINGLE,
    Key("simple", 32, 1): with_frontends(900.0, 40.0),
    Key("simple", 32, 2): with_frontends(1100.0, 30.0),
    Key("simple", 32, 6): with_frontends(4500.0, 30.0),
}


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def test_ratios_are_to_the_one_process():
    assert [row[2:4] + row[-2:] for row in rows(figures(RESULTS))] == [
        ["one process", "1000", "-", "-"],
        ["1 frontend", "900", "0.90", "0.40"],
        ["2 frontends", "1100", "1.10", "0.30"],
        ["6 frontends", "4500", "4.50", "0.30"],
    ]


@pytest.mark.parametrize(
    ("cores", "two", "engine", "linear"),
    [
        (2, ["1.10", "yes"], ["0.30", "yes"], ["not measured here", "-"]),
        (8, ["1.10", "yes"], ["0.30", "yes"], ["0.83", "yes"]),
    ],
)
def test_what_is_to_be_reached(cores, two, engine, linear):
    assert [row[2:] for row in rows(reached(RESULTS, cores))] == [two, engine, linear]


def test_what_is_not_reached():
    missed = RESULTS | {
        Key("simple", 32, 2): with_frontends(990.0, 36.0),
        Key("simple", 32, 6): with_frontends(4300.0, 30.0),
    }
    assert [row[2:] for row in rows(reached(missed, 8))] == [["0.99", "no"], ["0.36", "no"], ["0.80", "no"]]
    assert [row[2:] for row in rows(reached({Key("simple", 32, 1): SINGLE}, 8))] == [
        ["not measured here", "-"]
    ]


def test_the_picture_has_a_line_for_each_load():
    drawn = throughput_picture(RESULTS | {Key("600 KB", 8, 0): SINGLE, Key("600 KB", 8, 2): SINGLE})
    assert ">simple, 32 in flight</text>" in drawn
    assert ">600 KB, 8 in flight</text>" in drawn
