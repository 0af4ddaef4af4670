"""A run over time as a file of values."""

from __future__ import annotations

import csv
from dataclasses import fields

import pytest
from golden_files import same
from made_recordings import made_recording, nothing_completed

from yais.load.recording import Slice
from yais.load.slices_csv import HEADER, write_slices_csv


def test_as_a_file(tmp_path):
    write_slices_csv(tmp_path / "run.csv", made_recording(seconds=3.2, stall=(1.2, 0.2)).slices)
    same("run.csv", (tmp_path / "run.csv").read_text("utf-8"))


def test_read_again(tmp_path):
    slices = made_recording(seconds=2.5, failing=0.1).slices
    write_slices_csv(tmp_path / "run.csv", slices)
    with (tmp_path / "run.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(slices)
    for row, each in zip(rows, slices, strict=True):
        found = [float(value) for value in row.values()]
        assert found == pytest.approx([getattr(each, field.name) for field in fields(Slice)], abs=1e-6)


def test_no_latencies(tmp_path):
    write_slices_csv(tmp_path / "run.csv", nothing_completed().slices[:1])
    _, line = (tmp_path / "run.csv").read_text("utf-8").splitlines()
    assert line.endswith(",,,,") and len(line.split(",")) == len(HEADER)


def test_no_slices(tmp_path):
    write_slices_csv(tmp_path / "run.csv", [])
    assert (tmp_path / "run.csv").read_text("utf-8") == ",".join(HEADER) + "\n"


def test_the_header_names_the_attributes():
    assert [name.removesuffix("_ms").removesuffix("_s") for name in HEADER] == [
        field.name for field in fields(Slice)
    ]
