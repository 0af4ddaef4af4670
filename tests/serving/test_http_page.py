"""The page for people: whole in itself, and allowed to do no more than it does."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from http_models import fill_routed
from http_routed import connection_closing, routed


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    with routed(fill_routed(tmp_path_factory.mktemp("models"))) as calls:
        yield calls


@pytest.fixture(scope="module")
def answer(http):
    """Headers and text of the page."""
    connection, response = http.send("GET", "/")
    with connection_closing(connection):
        assert response.status == 200
        return response.headers, response.read().decode()


def test_it_is_html_that_may_not_be_framed_or_guessed_at(answer):
    headers, text = answer
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert text.startswith("<!doctype html>")


def test_its_policy_allows_its_own_script_and_style_alone(answer):
    headers, text = answer
    directives = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (contents,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(contents.encode()).digest()).decode()
        assert directives.pop(directive) == f"'sha256-{digest}'"
    assert directives == {
        "default-src": "'none'",
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_it_needs_nothing_from_elsewhere(answer):
    _, text = answer
    # The name of a namespace is no address.
    text = re.sub(r"http://www\.w3\.org/2000/svg", "", text)
    assert not re.search(r"https?://|//[a-z]|@import|<script src", text)
    assert not re.search(r"\son\w+=|\sstyle=|innerHTML|insertAdjacentHTML|document\.write|eval\(", text)


def test_what_it_asks_for_is_there(http, answer):
    _, text = answer
    asked = set(re.findall(r'(?:ask|json)\("([^"]+)"', text))
    assert asked == {"v2", "v2/repository/index", "v2/models/stats", "metrics", "v2/health/ready"}
    for path in asked - {"v2/health/ready"}:
        method = "POST" if path.endswith("index") else "GET"
        assert http.call(method, f"/{path}", "{}")[0] == 200
    assert set(re.findall(r'<a href="([^"]+)"', text)) == {"v2/models/stats", "metrics", "openapi.json"}


def test_the_metrics_it_reads_are_there(http, answer):
    _, text = answer
    (wanted,) = re.findall(r"wanted = /\^(\S+) \(\\S\+\)/gm", text)
    assert wanted == r"yais_inference_(pending_requests|request_seconds_bucket)\{(.*)\}"
    metrics = http.call("GET", "/metrics")[2].decode()
    for name in ("pending_requests", "request_seconds_bucket"):
        assert re.search(rf'^yais_inference_{name}\{{.*model="table".*\}} \S+$', metrics, re.MULTILINE)
