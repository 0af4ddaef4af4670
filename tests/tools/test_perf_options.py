"""Options of `yais perf`, and what they mean."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from yais.load.perf.calls import InputOptions
from yais.load.perf.search import LevelRange
from yais.load.perf.settings import PerfSettings
from yais.tools.perf_input_options import perf_input_options
from yais.tools.perf_settings_options import perf_settings_options

WARNING = "WARNING: The maximum attainable concurrency will be limited by max_threads specification.\n"


def given(decorator, *arguments):
    """Return what a command with the options gets, and what was said."""
    got = {}

    @click.command()
    @decorator
    def command(**values):
        got.update(values)

    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (0, ""), done.stderr
    return got, done.stderr


def settings(start, end, step=1, **fields):
    return PerfSettings(LevelRange(start, end, step), **fields)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", settings(1, 1)),
        ("-t 4", settings(4, 1)),
        ("-t 4 -c 9", settings(4, 1)),
        ("-d -l 5 -a", settings(1, 0, limit_ms=5, asynchronous=True)),
        ("-t 2 -d -l 5 -c 9", settings(2, 9, limit_ms=5)),
        ("--concurrency-range 3", settings(3, 1)),
        ("--concurrency-range 3:9", settings(3, 9)),
        ("--concurrency-range 3:9:2", settings(3, 9, 2)),
        ("--concurrency-range 3:0:2 -l 7 --async", settings(3, 0, 2, limit_ms=7, asynchronous=True)),
        ("--request-rate-range 0.5:2:0.5", settings(0.5, 2.0, 0.5, at_rates=True)),
        ("--request-rate-range 5:0 -l 1", settings(5.0, 0.0, at_rates=True, limit_ms=1)),
        (
            "--request-rate-range 5 --request-distribution poisson",
            settings(5.0, 1.0, at_rates=True, poisson=True),
        ),
        (
            "--concurrency-range 1:64:8 --binary-search --latency-threshold 3",
            settings(1, 64, 8, binary=True, limit_ms=3),
        ),
        ("-p 100 -s 25 -r 3", settings(1, 1, window_ms=100, stability=0.25, trials=3)),
        ("--percentile 95", settings(1, 1, percentile=95)),
        ("--percentile -1", settings(1, 1)),
        ("--measurement-mode count_windows", settings(1, 1, window_requests=50)),
        (
            "--measurement-mode count_windows --measurement-request-count 9",
            settings(1, 1, window_requests=9),
        ),
        ("--measurement-request-count 9", settings(1, 1)),
    ],
)
def test_settings(arguments, expected):
    got, said = given(perf_settings_options, *arguments.split())
    assert (got["settings"], got["sync"], said) == (expected, False, "")
    levels = got["settings"].levels
    number = float if expected.at_rates else int
    assert all(isinstance(each, number) for each in (levels.start, levels.end, levels.step))


def test_synchronous_requests_end_with_the_threads():
    got, said = given(perf_settings_options, "-d", "-l", "5")
    assert (got["settings"], got["streams"], said) == (settings(1, 16, limit_ms=5), 0, WARNING)
    got, said = given(perf_settings_options, "--concurrency-range=2:0", "-l5", "--max-threads=8", "--sync")
    assert (got["settings"], got["sync"], said) == (settings(2, 8, limit_ms=5), True, WARNING)


@pytest.mark.parametrize(("arguments", "streams"), [((), 16), (("--max-threads", "3"), 3)])
def test_streams(arguments, streams):
    got, said = given(perf_settings_options, "--streaming", "-d", "-l5", *arguments)
    assert (got["streams"], said) == (streams, "")
    assert got["settings"] == settings(1, 0, limit_ms=5, asynchronous=True)


@pytest.mark.parametrize(
    ("arguments", "expected", "shared"),
    [
        ("", InputOptions(shapes={}), False),
        ("-b 4 -z --shared-memory system", InputOptions(4, "zero", {}), True),
        (
            "--input-data zero --shape X:1,2 --shape Y:3",
            InputOptions(1, "zero", {"X": (1, 2), "Y": (3,)}),
            False,
        ),
        ("--input-data .", InputOptions(1, Path("."), {}), False),
        ("--data-directory .", InputOptions(1, Path("."), {}), False),
        ("--string-length 5 --string-data abc", InputOptions(1, "random", {}, 5, "abc"), False),
        (
            "--shared-memory system --output-shared-memory-size 9",
            InputOptions(shapes={}, output_bytes=9),
            True,
        ),
    ],
)
def test_inputs(arguments, expected, shared):
    got, said = given(perf_input_options, *arguments.split())
    assert (got, said) == ({"inputs": expected, "shared": shared}, "")
