"""The walk through the internals, on this machine."""

from __future__ import annotations

import re

import pytest
from programs import lines

import yais
from yais.core.topology import Topology
from yais.lane import placements
from yais.memory.host import HostMemoryResource
from yais.memory.numa import placement


@pytest.fixture(scope="module")
def steps() -> list[list[str]]:
    """What is printed, by step, without margins and headings."""
    text = "\n".join(lines("10_internals/internals.py", "--staging", 65536))
    return [[line[3:] for line in step.splitlines()[1:]] for step in text.split("\n\n")]


def test_the_machine_is_drawn_with_its_lanes(steps):
    drawing = "\n".join(steps[0])
    for place in placements(Topology.read()):
        assert re.search(rf"lane {place.name}: CPUs {place.cpus or 'any'}$", drawing, re.MULTILINE)


def test_another_machine_is_drawn_too(steps):
    drawing = "\n".join(steps[1])
    assert "lane gpu0: CPUs 0-3,8-11" in drawing and "lane gpu1: CPUs 4-7,12-15" in drawing


def test_each_lane_runs_on_its_cpus_and_has_its_memory_on_its_node(steps):
    *lanes, lent, closed = steps[2]
    places = placements(Topology.read())
    assert len(lanes) == 2 * len(places)
    with HostMemoryResource().allocate(4096) as buffer:
        tells = placement(buffer) is not None
    for line in lanes:
        found = re.fullmatch(r"demo\S*-\d+: threads on CPUs (\S+), should be (\S+); (.*)", line)
        assert found is not None, line
        assert found[2] == "None" or yais.CpuSet(found[1]) == yais.CpuSet(found[2])
        assert ("does not tell" in found[3]) == (not tells)
        nodes = [place.node.id for place in places if place.node and str(place.cpus) == found[2]]
        if tells and len(places) == 1 and nodes:
            assert f"pages on node {nodes[0]}" in found[3]
    assert f"0 of {len(lanes)} free" in lent
    assert closed == "closed in time: True"


def test_who_came_first_is_served_first(steps):
    assert steps[3] == [
        "<Pool things: 0 of 1 free, 4 waiting>",
        "the second gave up; served: first, third, fourth",
        "<Pool things: 1 of 1 free, 0 waiting>",
    ]


def test_a_segment_comes_back_with_its_last_piece(steps):
    taken, refused, again = steps[4]
    assert taken.endswith("<RingArena: 0 of 2 segments of 4096 bytes free, 0 waiting>")
    assert refused.startswith("one of them gone: no room yet")
    assert again.startswith("both gone, and a new one: ")


def test_windows_overlap(steps):
    status, *windows = steps[5]
    assert status == "<WindowedBuffer: 4 of 4 windows held, 4 of them ready>, 20 bytes of memory"
    assert [list(map(int, window.split())) for window in windows] == [
        list(range(start, start + 8)) for start in (0, 4, 8, 12)
    ]
