"""Timelines as pictures."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from golden_files import same

from yais.load.timeline_picture import timeline_picture
from yais.telemetry.timeline import Span, Track

MS = 1_000_000
LANES = [Track("lanes", f"lane {number}") for number in range(2)]
TOKEN = Track("tokens", "token 0")
COLOURS = {"gather": "blue", "execute": "orange"}


def batch(number, start):
    lane = LANES[number % 2]
    about = {"batch": number}
    return [
        Span(lane, "gather", start, start + 2 * MS, about),
        Span(lane, "execute", start + 2 * MS, start + 6 * MS, about),
        Span(lane, "<&>", start + 6 * MS, start + 7 * MS, about),
        Span(TOKEN, "execute", start + 2 * MS, start + 6 * MS, about),
    ]


SPANS = [span for number in range(4) for span in batch(number, number * 4 * MS)]


def drawn(svg):
    """Return the blocks of the tracks: text, x, y and width."""
    root = ET.fromstring(svg)
    name = "{http://www.w3.org/2000/svg}"
    return [
        (title.text, *(float(block.get(key)) for key in ("x", "y", "width")))
        for block in root.iter(f"{name}rect")
        if (title := block.find(f"{name}title")) is not None
    ]


def texts(svg, kind):
    return [each.text for each in ET.fromstring(svg).iter() if each.get("class") == kind]


def test_a_picture():
    same("timeline.svg", timeline_picture("Four batches", SPANS, (0, 19 * MS), COLOURS))


def test_blocks_stand_where_their_time_is():
    svg = timeline_picture("A", SPANS, (0, 20 * MS), COLOURS)
    blocks = drawn(svg)
    assert len(blocks) == len(SPANS)
    assert blocks[0][0] == "gather: 2.000 ms, batch 0"
    scale = (blocks[5][1] - blocks[0][1]) / 6  # px in a ms: the second execute begins at 6 ms
    for (_, x, _, width), span in zip(blocks, SPANS, strict=True):
        assert abs(x - blocks[0][1] - span.start / MS * scale) < 0.1
        assert abs(width - (span.end - span.start) / MS * scale) < 1
    assert len({y for _, _, y, _ in blocks}) == 3
    assert texts(svg, "mark")[:3] == ["0", "5", "10"] and texts(svg, "mark")[-3:] == [
        "lane 0",
        "lane 1",
        "token 0",
    ]


def test_only_what_is_in_the_window_is_drawn():
    svg = timeline_picture("A", SPANS, (5 * MS, 8 * MS), COLOURS)
    left, right = 96, 900 - 18
    blocks = drawn(svg)
    assert {text.partition(":")[0] for text, *_ in blocks} == {"gather", "execute", "<&>"}
    assert all(left <= x and x + width <= right for _, x, _, width in blocks)
    assert max(width for _, _, _, width in blocks) < (right - left) / 3 * 2.1


def test_the_key_says_what_there_is():
    svg = timeline_picture("A", SPANS, (0, 20 * MS), {"absent": "red", **COLOURS})
    assert texts(svg, "key") == ["gather", "execute", "<&>", "lanes", "tokens"]


def test_a_long_key_has_rows():
    names = {f"something with a long name {number}": "red" for number in range(8)}
    spans = [Span(TOKEN, name, 0, MS) for name in names]
    root = ET.fromstring(timeline_picture("A", spans, (0, MS), names))
    keys = [each for each in root.iter() if each.get("class") == "key"]
    assert len({each.get("y") for each in keys}) > 3
    assert all(float(each.get("x")) + 7 * len(each.text) < 900 for each in keys)
