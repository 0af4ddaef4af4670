"""The example of inference in a program."""

from __future__ import annotations

import re

import numpy as np
import pytest
from programs import client, lines, module

PROGRAM = "00_inference/inference.py"

POOLS = re.compile(r"execution tokens: (\d+) of (\d+) free.*infer lanes: (\d+) of (\d+) free")


def pools(line: str) -> list[int]:
    """Free and all tokens, free and all lanes."""
    found = POOLS.search(line)
    assert found is not None, line
    return [int(number) for number in found.groups()]


def after(printed: list[str], start: str, distance: int = 0) -> str:
    """The line that begins so, or one after it, without its margin."""
    stripped = [line.strip() for line in printed]
    (index,) = [index for index, line in enumerate(stripped) if line.startswith(start)]
    return stripped[index + distance]


@pytest.fixture(scope="module")
def printed() -> list[str]:
    return lines(PROGRAM, "--requests", 60, "--batch", 16)


def test_the_plan_says_what_is_taken(printed):
    assert after(printed, "Creating 2 execution tokens")
    assert after(printed, "Creating 3 lanes").endswith("each with 32.0 KiB of host staging memory")
    assert after(printed, "Total host memory") == "Total host memory: 96.0 KiB"
    assert after(printed, "ready:") == "ready: digits, nearest"


def test_bindings_hold_a_lane_and_no_token(printed):
    assert re.fullmatch(
        r"<Bindings of 'digits' on infer-\d: image: float32\[32, 1, 8, 8\]>", after(printed, "<Bindings")
    )
    assert pools(after(printed, "who has bindings", 1)) == [2, 2, 2, 3]
    right = re.fullmatch(r"(\d+) of 32 images are right", after(printed, "who has bindings", 2))
    assert right is not None and int(right[1]) >= 30


def test_an_execution_has_a_token_and_a_lane_and_its_answer_none(printed):
    assert pools(after(printed, "execute:")) == [1, 2, 2, 3]
    assert pools(after(printed, "post:")) == [2, 2, 3, 3]


def test_all_requests_are_answered_whatever_the_counts(printed):
    for run in printed, lines(PROGRAM, "--requests", 40, "--lanes", 1, "--tokens", 1, "--batch", 1):
        free_tokens, tokens, free_lanes, lanes = pools(after(run, "meanwhile:", 1))
        assert free_tokens <= tokens and free_lanes <= lanes
        assert re.match(r"(60|40) answers in ", after(run, "meanwhile:", 2))
        for name, least, distance in ("digits", 90, 3), ("nearest", 70, 4):
            right = re.fullmatch(rf"{name}: ([\d.]+)% right", after(run, "meanwhile:", distance))
            assert right is not None and float(right[1]) >= least


def test_what_a_request_waits_for_and_computes_is_within_its_time(printed):
    header = after(printed, "model  ").split()
    assert header == ["model", "queue", "buffers", "token", "stream", "compute", "request", "load", "ratio"]
    for row in (after(printed, "model  ", 1), after(printed, "model  ", 2)):
        name, *parts, request, ratio = row.split()
        assert name in {"digits", "nearest"}
        assert 0 < sum(map(float, parts)) <= float(request) + 0.005 and float(parts[3]) == 0
        assert float(ratio) >= 1


def test_what_the_models_do_not_take_ends_it_with_a_message():
    ended = client(PROGRAM, "--batch", 33)
    assert ended.returncode == 1
    assert ended.stderr.strip().endswith("batch-size must be <= 32 for 'digits'")


def test_nearest_gives_the_label_of_the_nearest_example():
    nearest = module("00_inference", "nearest").Nearest(
        np.array([[[0.0, 0.0]], [[10.0, 0.0]], [[0.0, 10.0]]], np.float32), np.array([7, 8, 9])
    )
    given = np.array([[[1.0, 9.0]], [[6.0, 1.0]], [[4.0, 1.0]]], np.float32)
    assert nearest({"image": given})["digit"].tolist() == [9, 8, 7]
