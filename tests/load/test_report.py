"""The page about a run."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from golden_files import same
from made_recordings import made_recording, nothing_completed, unsent_recording

from yais.load.histogram import latency_histogram
from yais.load.objective import Objective
from yais.load.recording import Recording
from yais.load.report import report, write_report
from yais.load.report_numbers import count, milliseconds, share
from yais.load.schedule import Constant

FACTS = {"Address": "127.0.0.1:8001", "Model": "simple", "Schedule": "constant, 200 requests/s"}
SLO = Objective.parse("p99<10ms")
MAY_BE_CLOSED_AT_ONCE = {"meta", "path", "circle", "rect"}
"""HTML reads <div/> as the beginning of one."""


class Page:
    """A report, read as XML: that it can be is part of what it promises."""

    def __init__(self, recording, objective=None, schedule=None, title="A run", facts=None):
        self.html = report(title, FACTS if facts is None else facts, recording, objective, schedule)
        head, _, self.source = self.html.partition("\n")
        assert head == "<!DOCTYPE html>"
        self.root = ET.fromstring(self.source)
        self.elements = [(each.tag.rpartition("}")[2], each) for each in self.root.iter()]

    def of(self, tag, kind=None):
        return [
            each
            for name, each in self.elements
            if name == tag and (kind is None or kind in each.get("class", "").split())
        ]

    def texts(self, tag, kind=None):
        return ["".join(each.itertext()) for each in self.of(tag, kind)]

    @property
    def headings(self):
        return self.texts("h2")

    @property
    def verdict(self):
        (text,) = self.texts("p", "verdict")
        return text

    def rows(self, heading):
        """Return the texts of the rows of the table below a heading."""
        (section,) = [
            each
            for name, each in self.elements
            if name in {"section", "details"} and heading in "".join(each[0].itertext())
        ]
        rows = [each for each in section.iter() if each.tag.endswith("}tr")]
        return [["".join(cell.itertext()) for cell in row] for row in rows]


CASES = {
    "well": (made_recording(), SLO, Constant(200.0)),
    "stalled": (made_recording(stall=(2.1, 0.4), failing=0.02), SLO, Constant(200.0)),
    "nothing": (nothing_completed(), SLO, Constant(200.0)),
    "unsent": (unsent_recording(), Objective.parse("avg<=5ms"), None),
    "one": (made_recording(seconds=0.3), None, None),
    "long": (made_recording(rate=5.0, seconds=300.0), SLO, Constant(5.0)),
    "empty": (Recording(), SLO, None),
}


@pytest.mark.parametrize("case", CASES)
def test_the_page_is_whole_and_needs_nothing_else(case):
    page = Page(*CASES[case])
    assert len(page.of("title")) == 1 and len(page.of("h1")) == 1 and len(page.of("main")) == 1
    assert page.root.get("lang") == "en"
    for name, element in page.elements:
        assert not {"src", "href", "onclick"} & set(element.attrib), name
        assert name not in {"script", "link", "img", "iframe", "image"}
    assert set(re.findall(r"<(\w+)[^>]*/>", page.source)) <= MAY_BE_CLOSED_AT_ONCE
    outside = re.sub(r'xmlns="http://www\.w3\.org/\S+"', "", page.source)
    assert "http" not in outside.replace("http-equiv", "") and "url(" not in outside
    assert "default-src 'none'" in outside


@pytest.mark.parametrize("case", CASES)
def test_charts_can_be_read_without_eyes(case):
    page = Page(*CASES[case])
    figures = page.of("figure")
    assert len(figures) == len(page.of("svg")) == len(page.of("figcaption"))
    for svg in page.of("svg"):
        assert svg.get("role") == "img" and len(svg.get("aria-label")) > 20
        left, top, width, height = map(float, svg.get("viewBox").split())
        drawn = " ".join(each.get("d") for each in svg.iter() if each.get("d"))
        for x, y in re.findall(r"[ML](\S+?) ([\d.]+)", drawn):
            assert left <= float(x) <= width and top <= float(y) <= height
    for table in page.of("table"):
        assert any(each.get("scope") == "row" for each in table.iter())


def test_a_run_that_went_well():
    recording, objective, schedule = CASES["well"]
    page = Page(recording, objective, schedule)
    assert page.verdict == f"✓ Objective kept: p99<10ms, it was {milliseconds(recording.percentile(99))}"
    assert page.of("ul") == []
    assert page.headings[:4] == ["Latency distribution", "Latency over time", "Rate", "In flight"]
    tiles = page.texts("div", "tile")
    assert "Sent200/sof 200/s asked" in tiles and "Failed0 %0 of 1,000" in tiles
    assert page.rows("How requests ended")[1:] == [["OK", "1,000", "100 %"]]
    assert page.rows("What was run") == [[name, value] for name, value in FACTS.items()]
    latency = {row[0]: row[1:] for row in page.rows("Latency")[1:]}
    p50 = milliseconds(recording.percentile(50))
    assert list(latency) == ["p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99", "max", "mean"]
    assert latency["p50"] == [p50, p50]
    assert latency["mean"][0] == milliseconds(recording.mean)
    # Nobody had to wait to be sent, so there is one line.
    assert "since sent" not in page.source.partition("In flight")[0]


def test_the_objective_is_drawn_where_it_stands():
    page = Page(*CASES["well"])
    distribution = page.of("svg")[0]
    (limit,) = [
        each.get("d")
        for each in distribution.iter()
        if each.get("class") == "line red dashed" and "L" in each.get("d")
    ]
    (mark,) = [each for each in distribution.iter() if each.text == "10" and each.get("text-anchor") == "end"]
    start, end = re.findall(r"[ML]\S+ ([\d.]+)", limit)
    assert float(start) == float(end) == pytest.approx(float(mark.get("y")), abs=5)


def test_a_very_short_last_moment_is_in_the_table_only():
    recording = made_recording(seconds=5.02)
    assert recording.slices[-1].seconds < 0.05
    page = Page(recording)
    (sent,) = [
        each.get("d")
        for each in page.of("svg")[2].iter()
        if each.get("class") == "line pale" and "L" in each.get("d")
    ]
    assert len(re.findall("[ML]", sent)) == len(recording.slices) - 1 == 5
    assert len(page.rows("The run over time")) - 1 == len(recording.slices)


def test_a_stall_is_seen():
    recording, objective, schedule = CASES["stalled"]
    page = Page(recording, objective, schedule)
    assert page.verdict.startswith("✗ Objective not kept: p99<10ms, 1.")
    assert page.verdict.endswith(" % of the requests failed or were never sent")
    (remark,) = page.texts("li")
    assert remark.startswith(f"{recording.held_back} requests (")
    assert "since sent" in page.source.partition("In flight")[0]
    latency = {row[0]: row[1:] for row in page.rows("Latency")[1:]}
    due, sent = (float(each.removesuffix(" ms")) for each in latency["max"])
    assert 300 < sent <= due < 500
    endings = page.rows("How requests ended")[1:]
    assert [row[0] for row in endings] == [
        "OK",
        "UNAVAILABLE",
        "failed to connect to all addresses; last error: <ipv4:127.0.0.1:8001> & \ufffdmore",
        "DEADLINE_EXCEEDED",
        "Deadline Exceeded",
    ]
    assert sum(int(row[1].replace(",", "")) for row in endings if len(row) > 1) == 1000


def test_nothing_completed():
    page = Page(*CASES["nothing"])
    assert page.headings[:2] == ["Rate", "In flight"]
    assert page.verdict == "✗ Objective not kept: p99<10ms, no request was completed"
    assert page.texts("li") == ["No request was completed, so there are no latencies."]
    assert page.rows("Latency")[1][1:] == ["-", "-"]
    assert "Failed100 %400 of 400" in page.texts("div", "bad")


def test_what_was_never_sent():
    page = Page(*CASES["unsent"])
    assert page.texts("li") == ["40 requests that were due (40 %) were never sent."]
    assert page.rows("How requests ended")[1:] == [
        ["OK", "50", "50 %"],
        ["no answer yet", "10", "10 %"],
        ["never sent", "40", "40 %"],
    ]


def test_no_objective():
    assert Page(made_recording(seconds=1.0)).of("p", "verdict") == []


def test_ended_early():
    recording = made_recording(seconds=1.0)
    recording.interrupted = True
    assert Page(recording).texts("li") == ["The run was ended early: this is what was measured until then."]


def test_a_late_sender_is_told():
    recording = made_recording(seconds=1.0)
    recording.late = 4
    (remark,) = Page(recording).texts("li")
    assert remark.startswith("4 requests (2 %) went out more than 1 ms late with room to send: the sender")
    recording.late = 2
    assert Page(recording).of("li") == []


def test_each_moment_has_its_row_and_what_the_pointer_reads():
    recording, objective, schedule = CASES["long"]
    page = Page(recording, objective, schedule)
    rows = page.rows("The run over time")
    assert len(rows) - 1 == len(recording.slices) >= 150
    assert sum(int(row[4]) for row in rows[1:]) == recording.completed
    over_time = page.of("svg")[1:]
    for svg in over_time:
        assert len([each for each in svg.iter() if each.get("class") == "at"]) == len(recording.slices)


def test_text_stays_text():
    text = '<script>alert("x")</script> & \x00\ud800'
    page = Page(made_recording(seconds=1.0), title=text, facts={text: text})
    told = '<script>alert("x")</script> & \ufffd\ufffd'
    assert page.texts("h1") == page.texts("title") == [told]
    assert page.rows("What was run") == [[told, told]]
    assert page.of("script") == []


def test_as_a_file(tmp_path):
    recording = made_recording(seconds=3.2, stall=(1.2, 0.3), failing=0.02)
    write_report(tmp_path / "run.html", "simple at 127.0.0.1:8001", FACTS, recording, SLO, Constant(200.0))
    same("report.html", (tmp_path / "run.html").read_text("utf-8"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0.000 ms"),
        (0.0312, "0.031 ms"),
        (0.312, "0.312 ms"),
        (1.239, "1.24 ms"),
        (12.44, "12.4 ms"),
        (124.4, "124 ms"),
        (999.4, "999 ms"),
        (999.6, "1.00 s"),
        (61_000, "61.0 s"),
        (3_600_000, "3,600 s"),
    ],
)
def test_milliseconds(value, text):
    assert milliseconds(value) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "0 %"),
        (0, 5, "0 %"),
        (1, 8, "12.5 %"),
        (5, 5, "100 %"),
        (1, 10**6, "< 0.01 %"),
        (999_999, 10**6, "> 99.99 %"),
    ],
)
def test_share(part, whole, text):
    assert share(part, whole) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (12.34, "12.3"), (99.0, "99"), (123.4, "123"), (4998.7, "4,999")]
)
def test_count(value, text):
    assert count(value) == text


def test_an_empty_histogram_is_no_trouble():
    page = Page(Recording(latency=latency_histogram(), service=latency_histogram()), SLO)
    assert "How requests ended" in page.headings and page.of("figure") == []
