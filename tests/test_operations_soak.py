"""What `benchmarks/operations_soak.py` takes for right and for wrong."""

from __future__ import annotations

import os
import sys
import threading
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.operations_soak import Plan, Report, besiege
from benchmarks.operations_soak_events import DRAIN, FRONTEND, RELOAD, Event, order, unexplained
from benchmarks.operations_soak_load import Checked, Failure
from benchmarks.operations_soak_picture import soak_picture
from benchmarks.operations_soak_samples import Sample, Usage, grown, kept, usage
from yais.errors import Code

KILL = Event(FRONTEND, "A", 100.0, 102.0)


def samples(*resident: float, name: str = "A: engine") -> list[Sample]:
    return [
        Sample(float(at), 10.0, {}, 5.0, {(name, 7): Usage(memory, 20, 8)})
        for at, memory in enumerate(resident)
    ]


@pytest.mark.parametrize(
    ("second", "code", "events", "wrong"),
    [
        (101, Code.UNAVAILABLE, [KILL], ""),
        (104, Code.UNAVAILABLE, [KILL], ""),
        (101, Code.UNKNOWN, [KILL], ""),
        (
            101,
            Code.INTERNAL,
            [KILL],
            "3 requests ended with INTERNAL (gone); at that time: frontend killed, A",
        ),
        (110, Code.UNAVAILABLE, [KILL], "3 requests ended with UNAVAILABLE (gone); at that time: nothing"),
        (98, Code.UNAVAILABLE, [KILL], "3 requests ended with UNAVAILABLE (gone); at that time: nothing"),
        (
            101,
            Code.UNAVAILABLE,
            [Event(DRAIN, "B", 100.0, 105.0)],
            "3 requests ended with UNAVAILABLE (gone); at that time: drain, B",
        ),
    ],
)
def test_only_kills_explain_failures(second, code, events, wrong):
    assert unexplained({Failure(second, code, "gone"): 3}, events) == ([wrong] if wrong else [])


def test_memory_that_grows():
    flat = samples(50, 100, 110, 100, 100, 105, 104, 100, 100, 105, 104, 108)
    assert grown(flat, 0.1) == []
    assert grown([*flat[:-2], *samples(120, 121)], 0.1) == [
        "A: engine: got 120 MiB resident at the end, expected 102"
    ]
    assert grown([*flat[:-1], *samples(500, name="B: engine")], 0.1) == []  # it was not there all the time


def test_descriptors_that_are_kept():
    before = {("A: engine", 7): Usage(100.0, 20, 8), ("B: engine", 9): Usage(100.0, 20, 8)}
    assert kept(before, {("A: engine", 7): Usage(100.0, 22, 8)}, 2) == []
    assert kept(before, {("A: engine", 7): Usage(100.0, 23, 8)}, 2) == [
        "A: engine: got 23 descriptors, expected 20 as before"
    ]


def test_everything_happens_before_anything_happens_again():
    kinds = (RELOAD, DRAIN, FRONTEND)
    found = list(islice(order(kinds, seed=1), 9))
    assert [set(found[at : at + 3]) for at in (0, 3, 6)] == [set(kinds)] * 3
    assert found == list(islice(order(kinds, seed=1), 9))


def test_the_usage_of_a_process():

    found = usage(os.getpid())
    assert found is not None
    assert found.resident > 10
    assert found.descriptors >= 3 and found.threads >= 1
    assert usage(2**22 + 1) is None  # above the highest number of a process


def test_the_picture_names_what_happened_once():
    failing = [*samples(100, 101), Sample(2.0, 9.0, {"UNAVAILABLE": 1.0}, None, {})]
    drawn = soak_picture("Two servers", failing, [KILL, Event(DRAIN, "B", 101.0, 102.0)], 100.0)
    assert drawn.count(">frontend killed</text>") == drawn.count(">drain</text>") == 1
    assert ">UNAVAILABLE</text>" in drawn and ">A: engine</text>" in drawn


def test_who_interrupts_it_leaves_nothing_that_goes_on():
    class Transport:
        def send(self, request, done):
            done(Code.UNAVAILABLE, "gone", b"")

    def interrupted():
        raise SystemExit(143)

    server = SimpleNamespace(name="A", reload=lambda: None, drain=lambda: None, start=lambda: None)
    vanishing = SimpleNamespace(vanish=lambda: None)
    running = SimpleNamespace(
        servers=(server, server), vanishing=vanishing, sender=Checked(Transport()), usages=interrupted
    )
    plan = Plan(seconds=600.0, every=0.1, share=0.5, frontends=0, engine_kills=False, growth=0.1, seed=0)
    with pytest.raises(SystemExit):
        besiege(plan, running, Report(rate=100.0))
    assert "operator" not in [thread.name for thread in threading.enumerate()]
