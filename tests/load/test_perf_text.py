"""What `yais perf` prints and writes, against what perf_analyzer 2.51 printed and wrote."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from perf_windows import CACHED, ENSEMBLE, TIMES, result, window

from yais.load.perf.results_csv import write_results_csv
from yais.load.perf.results_json import results_json
from yais.load.perf.search import LevelRange
from yais.load.perf.server_times import Total
from yais.load.perf.settings import PerfSettings
from yais.load.perf.text import (
    failure_text,
    level_text,
    level_title,
    number,
    pass_text,
    settings_text,
    summary_text,
)

OUTPUTS = Path(__file__).parent / "perf_analyzer_outputs"

UNSTABLE = "Failed to obtain stable measurement"
INCREASE = "Please try to increase the --measurement-"

SETTINGS = PerfSettings(LevelRange(1, 1, 1), window_ms=300)

NESTED = replace(
    ENSEMBLE,
    composing={
        ("ens", "1"): replace(ENSEMBLE, composing={("simple", "1"): TIMES, ("simple2", "1"): TIMES}),
        ("simple", "1"): TIMES,
    },
)


def plain(text):
    """Leave out the values of numbers, but for versions of models and levels of load."""
    keep = r"(?:version: |concurrency: |Concurrency: |Request Rate(?: limit)?: |size: |window: |limit: |p)$"
    return re.sub(
        r"\d+(?:\.\d+)?",
        lambda found: found[0] if re.search(keep, text[: found.start()].rpartition("\n")[2]) else "#",
        text,
    )


def printed(settings, results, *, passes=0):
    """Return all that is printed, with `passes` windows of each level."""
    lines = [settings_text(settings).removesuffix("\n")]
    for each in results:
        lines.append(level_title(settings, each.level))
        lines += [pass_text(settings, count + 1, each.window) for count in range(passes)]
        if each.met:
            lines.append(level_text(settings, each, verbose=bool(passes)))
    return "\n".join([*lines, summary_text(settings, [each for each in results if each.met]), ""])


def met(*levels):
    return [result(level) for level in levels]


def over(*levels):
    return [result(level, over=True) for level in levels]


ASYNC = replace(SETTINGS, asynchronous=True)


@pytest.mark.parametrize(
    ("name", "settings", "results", "verbose"),
    [
        ("grpc", SETTINGS, met(1), False),
        ("grpc_verbose_range", replace(SETTINGS, levels=LevelRange(1, 3, 2)), met(1, 3), True),
        ("http", replace(SETTINGS, protocol="http"), met(1), False),
        ("http_verbose_percentile", replace(SETTINGS, protocol="http", percentile=97), met(1), True),
        ("streaming", replace(ASYNC, levels=LevelRange(4, 1, 1)), met(4), False),
        (
            "rates",
            replace(ASYNC, at_rates=True, levels=LevelRange(100.0, 200.0, 100.0)),
            met(100.0, 200.0),
            False,
        ),
        ("cached", replace(SETTINGS, cached=True), [result(1, window(server=CACHED))], False),
        ("ensembles", SETTINGS, [result(1, window(server=NESTED))], False),
        ("decoupled", replace(ASYNC, decoupled=True), [result(1, window(responses=12))], True),
        (
            "limit_count",
            replace(ASYNC, levels=LevelRange(1, 0, 1), limit_ms=1, window_requests=10),
            [*met(1, 2, 3, 4, 5), *over(6)],
            False,
        ),
        (
            "batch_binary",
            replace(ASYNC, batch=2, levels=LevelRange(1, 64, 32), binary=True, limit_ms=2),
            [*met(1), *over(64, 32)],
            False,
        ),
    ],
)
def test_output(name, settings, results, verbose):
    theirs = (OUTPUTS / f"{name}.txt").read_text()
    passes = theirs.count("Pass [") // len(results)
    assert bool(passes) == verbose
    assert plain(printed(settings, results, passes=passes)) == plain(theirs)


def test_requests_that_are_late():
    """Only the words are the same: theirs prints numbers after the percentage with two digits, too."""
    settings = replace(ASYNC, at_rates=True, poisson=True, levels=LevelRange(900.0, 1.0, 1.0))
    late = window([100] * 1000, sent=1000, late=14)
    ours = printed(settings, [result(900.0, late)])
    assert plain(ours) == plain((OUTPUTS / "rates_poisson.txt").read_text()).replace("900.00", "900")
    assert "Avg send request rate: 2000.00 infer/sec\n" in ours
    assert "request rate. 1.40% of the requests were delayed. \n" in ours
    assert "delayed" not in printed(settings, [result(900.0, window([100] * 1000, late=10))])


@pytest.mark.parametrize(
    ("name", "settings", "results", "verbose"),
    [
        ("grpc", SETTINGS, met(1), False),
        ("verbose", SETTINGS, met(1), True),
        ("percentile", replace(SETTINGS, percentile=97), met(1), False),
        ("rates", replace(SETTINGS, at_rates=True), met(100.0, 200.0), False),
        ("cached", replace(SETTINGS, cached=True), [result(1, window(server=CACHED))], False),
        ("decoupled", replace(ASYNC, decoupled=True), met(1), False),
    ],
)
def test_csv(tmp_path, name, settings, results, verbose):
    path = tmp_path / "results.csv"
    write_results_csv(path, settings, results, verbose=verbose)
    ours, theirs = path.read_text(), (OUTPUTS / f"{name}.csv").read_text()
    assert ours.splitlines()[0] == theirs.splitlines()[0]
    assert re.sub(r"[\d.]+", "#", ours) == re.sub(r"[\d.]+", "#", theirs)


# --- Numbers ------------------------------------------------------------------------------------------


def test_a_result():
    measured = window([100.5, 200.5, 300.5, 401.5], seconds=0.3, cpu=0.0301)
    assert level_text(SETTINGS, result(1, measured), verbose=True).splitlines() == [
        "  Client: ",
        "    Request count: 4",
        "    Throughput: 13.3333 infer/sec",
        "    Avg client overhead: 10.03%",
        "    Avg latency: 250 usec (standard deviation 129 usec)",
        "    p50 latency: 200 usec",
        "    p90 latency: 401 usec",
        "    p95 latency: 401 usec",
        "    p99 latency: 401 usec",
        "    Avg gRPC time: 250 usec (marshal 5 usec + response wait 245 usec + unmarshal 0 usec)",
        "  Server: ",
        "    Inference count: 30",
        "    Execution count: 10",
        "    Successful request count: 10",
        (
            "    Avg request latency: 100 usec (overhead 29 usec + queue 30 usec + compute input 5 usec + "
            "compute infer 25 usec + compute output 11 usec)"
        ),
    ]


def test_batches_and_answers():
    measured = window(batch=8, responses=6, seconds=2)
    text = level_text(replace(ASYNC, decoupled=True), result(1, measured), verbose=False)
    assert "Throughput: 16 infer/sec\n    Response Throughput: 3 infer/sec\n" in text
    assert "\n    \n  Server: " in text  # no times of the client


def test_a_model_with_a_cache():
    text = level_text(replace(SETTINGS, cached=True), result(1, window(server=CACHED)), verbose=False)
    assert text.endswith(
        "    Inference count: 1\n"
        "    Execution count: 1\n"
        "    Cache hit count: 2\n"
        "    Cache miss count: 1\n"
        "    Successful request count: 3\n"
        "    Avg request latency: 100 usec (overhead 63 usec + queue 10 usec + cache hit/miss 27 usec)\n"
        "      Average Cache Hit Latency: 7 usec\n"
        "      Average Cache Miss Latency: 66 usec (cache lookup/insertion 6 usec + compute input 10 usec + "
        "compute infer 20 usec + compute output 30 usec)\n"
    )


def test_an_ensemble_takes_what_its_models_take():
    text = level_text(SETTINGS, result(1, window(server=ENSEMBLE)), verbose=False)
    # Twice the 30 us and the 41 us of `first`, once through `second`.
    assert "Avg request latency: 400 usec (overhead 258 usec + queue 60 usec + compute 82 usec)\n" in text
    assert "Avg request latency: 90 usec (overhead 19 usec + queue 30 usec + compute 41 usec)\n" in text


def test_a_server_without_statistics(tmp_path):
    without = result(1, window(server=None))
    assert "Server" not in level_text(SETTINGS, without, verbose=False)
    write_results_csv(tmp_path / "results.csv", SETTINGS, [without])
    header, row = (tmp_path / "results.csv").read_text().splitlines()
    assert header == (
        "Concurrency,Inferences/Second,Client Send,Client Recv,"
        "p50 latency,p90 latency,p95 latency,p99 latency"
    )
    assert row == "1,8,5,0,200,400,400,400"


def test_a_busy_client():
    quiet, busy = (level_text(SETTINGS, result(1, window(cpu=cpu)), verbose=False) for cpu in (0.474, 0.476))
    assert busy == (
        f"{quiet}\n[WARNING] The client used 95% of a CPU: it may be what limits the 8 infer/sec."
    )


def test_csv_rows(tmp_path):
    fast, slow = result(2, window(seconds=0.1)), result(4)
    write_results_csv(tmp_path / "results.csv", SETTINGS, [fast, slow], verbose=True)
    rows = (tmp_path / "results.csv").read_text().splitlines()[1:]
    # The mean of 250 us, without 5 us for sending and the server's 71 us.
    assert rows == [
        "4,8,5,173,30,5,25,11,0,200,400,400,400,250,5,245",
        "2,40,5,173,30,5,25,11,0,200,400,400,400,250,5,245",
    ]


def test_csv_of_a_server_that_was_asked_in_vain_at_a_level(tmp_path):
    nothing, some = result(1, window(server=None)), result(2, window(seconds=0.1))
    for results in ([nothing, some], [nothing, result(2, window(seconds=1))]):
        write_results_csv(tmp_path / "results.csv", SETTINGS, results)
        header, *rows = (tmp_path / "results.csv").read_text().splitlines()
        assert {len(row.split(",")) for row in rows} == {len(header.split(","))} == {13}


def test_csv_of_the_models_of_an_ensemble(tmp_path):
    ensemble = replace(ENSEMBLE, success=Total(20, 8_000_000))  # one in two requests needs the first
    write_results_csv(tmp_path / "results.csv", SETTINGS, [result(1, window(server=ensemble))])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "first_v1.results.csv",
        "results.csv",
        "second_v3.results.csv",
    ]
    header, row = (tmp_path / "first_v1.results.csv").read_text().splitlines()
    assert header == (
        "Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
        "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv"
    )
    assert row == "1,4,0,28,30,5,25,11,0"


def test_json():
    (level,) = results_json(SETTINGS, [result(3, window(server=ENSEMBLE))])
    assert level["concurrency"] == 3
    assert level["throughput"] == 8
    assert level["latency_us"]["p50"] == pytest.approx(200.5, rel=2e-3)
    assert level["server"]["composing"]["second:3"]["composing"]["first:1"]["queue_us"] == 30
    (level,) = results_json(replace(SETTINGS, at_rates=True), [result(3.5)])
    assert level["request_rate"] == 3.5


@pytest.mark.parametrize(
    ("settings", "fields", "text"),
    [
        (
            replace(SETTINGS, trials=4),
            {"stable": False},
            f"{UNSTABLE} within 4 measurement windows for concurrency 2. {INCREASE}interval.",
        ),
        (
            replace(SETTINGS, window_requests=9),
            {"stable": False},
            f"{UNSTABLE} within 10 measurement windows for concurrency 2. {INCREASE}request-count.",
        ),
        (replace(SETTINGS, at_rates=True), {"stable": False}, f"{UNSTABLE}."),
        (
            replace(SETTINGS, limit_ms=7),
            {"over": True},
            "Measured latency went over the set limit of 7 msec. ",
        ),
    ],
)
def test_levels_that_are_not_met(settings, fields, text):
    assert failure_text(settings, result(2, **fields)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(2064.3, "2064.3"), (13185.24, "13185.2"), (8, "8"), (199.069, "199.069"), (1234567.0, "1.23457e+06")],
)
def test_numbers_are_those_of_c(value, text):
    assert number(value) == text
