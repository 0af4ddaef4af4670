"""The percentile distribution in a file."""

from __future__ import annotations

import re

import pytest
from golden_files import same

from yais.load.hgrm import hgrm, write_hgrm
from yais.load.histogram import latency_histogram

MILLISECOND = 1_000_000


def histogram(milliseconds):
    made = latency_histogram()
    for each in milliseconds:
        made.record_value(int(each * MILLISECOND))
    return made


def test_as_a_file(tmp_path):
    values = histogram([1, 2, 2.5, 3, 250])
    write_hgrm(tmp_path / "run.hgrm", values)
    text = (tmp_path / "run.hgrm").read_text("utf-8")
    assert text == hgrm(values)
    same("five.hgrm", text)


def test_milliseconds_throughout():
    text = hgrm(histogram([10] * 50 + [20] * 50))
    lines = [line.split() for line in text.splitlines() if re.match(r" *\d", line)]
    assert all(len(line) in (3, 4) for line in lines)
    assert float(lines[0][0]) == pytest.approx(10, rel=1e-3)
    assert float(lines[-1][0]) == pytest.approx(20, rel=1e-3)
    assert [line[2] for line in lines[:1] + lines[-1:]] == ["50", "100"]
    mean, deviation = re.search(r"Mean += +([\d.]+), StdDeviation += +([\d.]+)]", text).groups()
    assert float(mean) == pytest.approx(15, rel=1e-3)
    assert float(deviation) == pytest.approx(5, rel=1e-3)
    assert float(re.search(r"Max += +([\d.]+), TotalCount += +100", text)[1]) == pytest.approx(20, rel=1e-3)


def test_percentiles_rise_to_the_last():
    text = hgrm(histogram(range(1, 1000)))
    rows = [line.split() for line in text.splitlines()[2:] if not line.startswith("#")]
    for column in range(3):
        values = [float(row[column]) for row in rows]
        assert values == sorted(values)
    assert float(rows[-1][1]) == 1.0


def test_nothing_recorded():
    text = hgrm(latency_histogram())
    assert "TotalCount     =        0.000]" in text
    assert len(text.splitlines()) == 5
