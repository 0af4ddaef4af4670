"""Charts, as elements of an SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from golden_files import same

from yais.load.chart import chart, picture
from yais.load.chart_style import DARK, LIGHT
from yais.load.curve import CurvePoint, curve
from yais.load.plot import WIDTH, Axis, Line, Readout
from yais.load.scales import LinearScale

X, Y = Axis("load", LinearScale(0, 10)), Axis("ms", LinearScale(0, 100))
POINTS = [
    CurvePoint("1", 1800, 0.52, 0.6, 0.8),
    CurvePoint("8", 9800, 0.78, 1.0, 1.7),
    CurvePoint("32", 12400, 2.5, 3.0, 4.1),
    CurvePoint("64", 12350, 5.1, 6.0, 8.0),
]


class Drawn:
    """An SVG, read again."""

    def __init__(self, svg):
        self.root = ET.fromstring(svg)
        self.elements = [
            (element.tag.rpartition("}")[2], element.get("class", ""), element)
            for element in self.root.iter()
        ]

    def of(self, tag, *classes):
        return [
            element
            for name, found, element in self.elements
            if name == tag and set(classes) <= set(found.split())
        ]

    def texts(self, kind):
        return [element.text for element in self.of("text", kind)]

    def lines(self):
        """Return the lines within the axes, without those of the key."""
        return [each for each in self.of("path", "line") if not re.fullmatch(r"M\S+ \S+h24", each.get("d"))]


def places(path):
    return [tuple(map(float, pair)) for pair in re.findall(r"[ML](\S+?) ([\d.]+)", path.get("d"))]


def test_points_stand_where_their_values_are():
    drawn = Drawn(picture("A", X, Y, [Line("one", [(0, 0), (5, 50), (10, 100)], "blue")]))
    (line,) = drawn.lines()
    (left, bottom), (middle, half), (right, top) = places(line)
    assert left < middle < right and bottom > half > top
    assert (middle - left, bottom - half) == pytest.approx((right - middle, half - top))
    dots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in drawn.of("circle", "blue")]
    assert dots == places(line)
    (mark,) = [text for text in drawn.of("text", "mark") if text.text == "100"]
    assert float(mark.get("y")) == pytest.approx(top, abs=5)  # Half of the height of its letters.


def test_what_is_beyond_the_axes_stands_at_their_ends():
    beyond, within = (
        Drawn(picture("A", X, Y, [Line("one", points, "blue")])).lines()[0].get("d")
        for points in ([(-5, -50), (20, 200)], [(0, 0), (10, 100)])
    )
    assert beyond == within


def test_a_value_that_is_not_there_is_a_gap():
    points = [(0, 10), (1, 20), (2, None), (3, None), (4, 30), (5, None)]
    drawn = Drawn(picture("A", X, Y, [Line("one", points, "blue", filled=True)]))
    (line,) = drawn.lines()
    assert line.get("d").count("M") == 2
    assert line.get("d").endswith("h0")  # A point alone is a dot as wide as the line.
    assert len(drawn.of("circle")) == 3
    (area,) = drawn.of("path", "area")
    assert area.get("d").count("Z") == 1


def test_many_points_have_no_dots():
    points = [(number / 100, 50.0) for number in range(1000)]
    assert Drawn(picture("A", X, Y, [Line("one", points, "blue")])).of("circle") == []
    dashed = Line("one", points[:5], "blue", dashed=True)
    assert Drawn(picture("A", X, Y, [dashed])).of("circle") == []


def test_a_label_that_would_cover_another_is_left_out():
    points = [(5, 50.0), (5.05, 50.5), (8, 50.0), (8, 90.0)]
    line = Line("one", points, "blue", labels=["first", "second", "third", "fourth"])
    assert Drawn(picture("A", X, Y, [line])).texts("point") == ["first", "third", "fourth"]


def test_marks_that_would_cover_one_another_are_left_out():
    close = Axis("load", LinearScale(0, 10, [0, 0.1, 0.5, 5, 9.9, 10]))
    drawn = Drawn(picture("A", close, Y, [Line("one", [(0, 0)], "blue")]))
    assert [text for text in drawn.texts("mark") if text in {"0.1", "0.5", "9.9", "5"}] == ["5", "9.9"]


def test_the_key_has_as_many_rows_as_it_needs():
    one, many = (
        Drawn(picture("A", X, Y, [Line(f"a line of number {n}", [(0, 0)], "blue") for n in range(number)]))
        for number in (1, 7)
    )
    rows = {text.get("y") for text in many.of("text", "key")}
    assert len(many.of("text", "key")) == 7 and 3 <= len(rows) <= 7
    assert _height(many) - _height(one) == 22 * (len(rows) - 1)
    assert all(float(text.get("x")) < WIDTH - 9 * len(text.text) for text in many.of("text", "key"))


def test_text_is_text():
    name = '<script>&"\x07'
    drawn = Drawn(picture(name, Axis(name, X.scale), Axis(name, Y.scale), [Line(name, [(0, 0)], "red")]))
    assert drawn.of("script") == []
    assert [*drawn.texts("name"), *drawn.texts("key")] == ['<script>&"\ufffd'] * 3
    assert drawn.root.get("aria-label") == '<script>&"\ufffd'


def test_a_long_title_has_lines():
    title = "Of all requests, answered within the objective, at 95 % of what there is"
    assert " ".join(Drawn(picture(title, X, Y, [])).texts("title")) == title
    assert len(Drawn(picture(title, X, Y, [])).texts("title")) == 2


def test_what_the_pointer_reads():
    readouts = [Readout(0, 5, "first"), Readout(5, 10, "second")]
    drawn = Drawn(chart("A", "What it shows", X, Y, [], readouts))
    bands = [(float(each.get("x")), float(each.get("width"))) for each in drawn.of("rect")]
    assert bands[0][0] + bands[0][1] == pytest.approx(bands[1][0])
    assert drawn.root.get("aria-label") == "A. What it shows"
    assert list(drawn.texts("key")) == ["first", "second"]


def test_each_colour_has_a_shade_for_light_and_for_dark():
    for colour in ("pale", "blue", "deep", "orange", "green", "red", "grey"):
        shades = [re.search(rf"\.line\.{colour} {{ stroke: (#\w+)", style)[1] for style in (LIGHT, DARK)]
        assert _contrast(shades[0], "#ffffff") >= 3 and _contrast(shades[1], "#161b24") >= 3


def test_text_is_legible_on_its_ground():
    for style, ground in ((LIGHT, "#ffffff"), (DARK, "#161b24")):
        for rule in (r"^text {{ fill: (#\w+)", r"^\.title, \.key, \.point {{ fill: (#\w+)"):
            ink = re.search(rule.replace("{{", "{"), style, re.MULTILINE)[1]
            assert _contrast(ink, ground) >= 4.5


def test_curve():
    svg = curve(POINTS)
    same("curve.svg", svg)
    drawn = Drawn(svg)
    assert drawn.texts("point") == ["1", "8", "32", "64"]
    assert drawn.texts("key") == ["p50", "p90", "p99, with the concurrency"]
    throughput = [x for x, _ in places(drawn.lines()[0])]
    assert throughput[:3] == sorted(throughput[:3]) and throughput[3] < throughput[2]


def test_curve_of_one_point():
    drawn = Drawn(curve(POINTS[:1], title="Simple", level="request rate"))
    assert (drawn.texts("title"), drawn.texts("point")) == (["Simple"], ["1"])
    assert drawn.texts("key")[-1] == "p99, with the request rate"


def test_curve_of_latencies_that_differ_widely():
    drawn = Drawn(curve([*POINTS, CurvePoint("128", 12000, 50, 100, 400)]))
    assert "ms, log scale" in drawn.texts("name")
    assert "500" in drawn.texts("mark")


def _height(drawn):
    return int(drawn.root.get("viewBox").split()[3])


def _contrast(one, other):
    """Return the contrast of two colours as the W3C defines it."""

    def luminance(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
