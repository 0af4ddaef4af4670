"""Logs as JSON: a record is an object in one line, whatever it is of."""

from __future__ import annotations

import io
import json
import logging
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider

import yais
from yais.telemetry.json_log import JsonFormatter
from yais.telemetry.trace_ids import trace_ids

ALWAYS = ["time", "level", "logger", "message", "pid", "source"]


@pytest.fixture
def logger() -> Iterator[tuple[logging.Logger, Callable[[], dict[str, Any]]]]:
    """Yield a logger, and what returns the last line that it wrote."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("shop.orders")
    logger.addHandler(handler)

    def last() -> dict[str, Any]:
        line: dict[str, Any] = json.loads(stream.getvalue().splitlines()[-1])
        return line

    yield logger, last
    logger.removeHandler(handler)


def made(message: str = "said", **extra: Any) -> logging.LogRecord:
    record = logging.LogRecord("a", logging.INFO, "/x/file.py", 7, message, (), None)
    vars(record).update(extra)
    return record


def test_what_is_always_there() -> None:
    record = made('a "word"\nand é')
    record.created, record.process = 1695376800.000123, 42
    line = JsonFormatter().format(record)
    assert line.isascii() and "\n" not in line
    assert json.loads(line) == {
        "time": "2023-09-22T10:00:00.000123Z",
        "level": "INFO",
        "logger": "a",
        "message": 'a "word"\nand é',
        "pid": 42,
        "source": "file.py:7",
    }


def test_extra(logger: Any) -> None:
    log, last = logger
    log.warning("%s of %d", "one", 2, extra={"model": "m", "request_id": "mine", "seconds": 0.25, "n": None})
    line = last()
    assert list(line)[: len(ALWAYS)] == ALWAYS
    assert (line["level"], line["logger"], line["message"]) == ("WARNING", "shop.orders", "one of 2")
    assert {name: line[name] for name in set(line) - set(ALWAYS)} == {
        "model": "m",
        "request_id": "mine",
        "seconds": 0.25,
        "n": None,
    }


def test_an_error(logger: Any) -> None:
    log, last = logger
    try:
        raise ValueError("bad\nluck")
    except ValueError:
        log.exception("it raised")
    line = last()
    assert line["error"] == "ValueError: bad\nluck"
    assert line["traceback"].startswith("Traceback (most recent call last):\n")


def test_no_error_where_there_is_none() -> None:
    record = made()
    record.exc_info = (None, None, None)
    assert "error" not in json.loads(JsonFormatter().format(record))


def test_nobody_overrides_what_is_always_there() -> None:
    line = json.loads(JsonFormatter().format(made(time="never", level=7, logger="x", source="y")))
    assert line["logger"] == "a" and line["level"] == "INFO" and line["source"] == "file.py:7"


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=5)
        | st.binary(max_size=3)
        | st.lists(st.floats() | st.text(max_size=3), max_size=3)
        | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
        max_size=4,
    ),
    st.text(max_size=10) | st.just("\ud800"),
)
def test_whatever_is_said_is_one_line_of_json(extra: dict[str, Any], message: str) -> None:
    kept = {name: value for name, value in extra.items() if name not in vars(made())}
    line = JsonFormatter().format(made(message, **kept))
    assert line.isascii() and "\n" not in line

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    read = json.loads(line, parse_constant=refuse)
    assert read["message"] == message
    for name, value in kept.items():
        if name not in ALWAYS and (isinstance(value, str | int) or value is None):
            assert read[name] == value
        elif name not in ALWAYS and isinstance(value, float) and not math.isfinite(value):
            assert read[name] == str(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_know(value: float) -> None:
    line = JsonFormatter().format(made(alone=value, among=[1.5, value]))
    assert f'"alone": "{value}", "among": [1.5, "{value}"]' in line


def test_the_current_span(logger: Any) -> None:
    log, last = logger
    log.error("outside")
    assert "trace_id" not in last()
    provider = TracerProvider(shutdown_on_exit=False)
    with provider.get_tracer("tests").start_as_current_span("inside") as span:
        log.error("inside")
        known = span.get_span_context()
        assert last()["trace_id"] == f"{known.trace_id:032x}"
        assert last()["span_id"] == f"{known.span_id:016x}"
        log.error("of another", extra={"trace_id": "ab", "span_id": "cd"})
        assert (last()["trace_id"], last()["span_id"]) == ("ab", "cd")


def test_without_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert trace_ids(made()) == {}
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    assert trace_ids(made()) == {}


class Log(yais.Context[bytes, bytes, yais.Resources]):
    def execute(self, request: bytes) -> bytes:
        logging.getLogger("tests.json").error("served")
        return request


def test_what_a_call_logs_has_the_ids_of_its_span() -> None:
    """By the interceptors: of the code that serves it, and of the access log."""
    import grpc

    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    loggers = [logging.getLogger(name) for name in ("tests.json", "yais.access")]
    for each in loggers:
        each.addHandler(handler)
        each.setLevel(logging.INFO)
    service = yais.Service("test.Log")
    service.register("Say", Log, contexts=1, deserialize=bytes, serialize=bytes)
    provider = TracerProvider(shutdown_on_exit=False)
    server = yais.Server("127.0.0.1:0", interceptors=[yais.AccessLog(), yais.Tracing(provider)])
    server.add(service)
    trace = "0af7651916cd43dd8448eb211c80319c"
    try:
        with server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            metadata = [("traceparent", f"00-{trace}-b7ad6b7169203331-01")]
            channel.unary_unary("/test.Log/Say")(b"a", timeout=10, metadata=metadata)
    finally:
        for each in loggers:
            each.removeHandler(handler)
            each.setLevel(logging.NOTSET)
    served, access = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert served["message"] == "served"
    assert (access["method"], access["code"]) == ("/test.Log/Say", "OK")
    assert access["seconds"] > 0
    assert {line["trace_id"] for line in (served, access)} == {trace}
    assert served["span_id"] == access["span_id"] != "b7ad6b7169203331"
