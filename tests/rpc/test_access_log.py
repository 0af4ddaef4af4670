"""The access log: its lines, its fields, and what cannot be forged."""

from __future__ import annotations

import logging

import pytest
from echoing import eventually
from every_kind import CONTEXTS, PATHS, every_kind
from incoming import METHOD, begun, incoming, pass_through

import yais
from yais.errors import Code
from yais.rpc.interceptors.access_log import AccessLog
from yais.rpc.interceptors.bearer_token import BearerToken
from yais.testing import ManualClock


@pytest.fixture(autouse=True)
def _listening(caplog):
    caplog.set_level(logging.INFO, "yais.access")


def line_of(caplog, **options):
    pass_through(AccessLog(), incoming(**options))
    return caplog.records[-1].getMessage()


def test_a_call_is_a_line_at_its_end(caplog):
    clock = ManualClock()
    interception = begun(AccessLog(clock=clock))
    clock.advance(0.25)
    assert caplog.records == []
    interception.end(Code.NOT_FOUND)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("yais.access", logging.INFO)
    expected = f"{METHOD} peer=ipv4:10.0.0.1:5000 identity=- code=NOT_FOUND seconds=0.250000"
    assert record.getMessage() == expected


def test_the_values_are_attributes_of_the_record(caplog):
    clock = ManualClock()
    interception = begun(AccessLog(clock=clock), incoming(identity="alice"))
    clock.advance(1.5)
    interception.end(Code.OK)
    pass_through(AccessLog())
    first, second = caplog.records
    values = (first.method, first.peer, first.identity, first.code, first.seconds)
    assert values == (METHOD, "ipv4:10.0.0.1:5000", "alice", "OK", 1.5)
    assert second.identity is None


def test_the_identity_is_what_it_is_at_the_end(caplog):
    call = incoming(metadata=[("authorization", "Bearer x")])
    begun([AccessLog(), BearerToken({"alice": "x"})], call).end(Code.OK)
    assert " identity=alice " in caplog.text


def test_refused_calls_are_logged(caplog):
    with pytest.raises(yais.Unauthenticated):
        begun([AccessLog(), BearerToken({"alice": "x"})])
    assert " identity=- code=UNAUTHENTICATED " in caplog.text


def test_another_logger_and_level(caplog):
    caplog.set_level(logging.DEBUG, "tests.calls")
    pass_through(AccessLog(logging.getLogger("tests.calls"), logging.DEBUG))
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("tests.calls", logging.DEBUG)


def test_a_level_that_is_off_costs_no_line(caplog):
    caplog.set_level(logging.WARNING, "yais.access")
    interception = begun(AccessLog())
    assert interception._ended == []
    interception.end(Code.OK)
    assert caplog.records == []


def test_no_logging_is_configured():
    logger = logging.getLogger("yais.access")
    AccessLog()
    assert logger.handlers == [] and logger.propagate


FORGERY = "\nWARNING:root:all is lost"


@pytest.mark.parametrize(
    "text", [FORGERY, "\r\n", "\x1b[2J", "\x00", "\x85", "\u2028", "\u202e", "\ud800", "\x7f"]
)
@pytest.mark.parametrize("where", ["method", "peer", "identity"])
def test_control_characters_cannot_forge_a_line(caplog, where, text):
    line = line_of(caplog, **{where: f"/a.B/C{text}"})
    assert line.isprintable() and len(line.splitlines()) == 1
    assert f"/a.B/C\\u{{{ord(text[0]):x}}}" in line
    assert getattr(caplog.records[-1], where).isprintable()


@pytest.mark.parametrize("where", ["method", "peer", "identity"])
def test_blanks_cannot_forge_a_field(caplog, where):
    line = line_of(caplog, **{where: 'x identity=root code="OK" \\u{20}'})
    assert len(line.split(" ")) == 5
    assert line.count("=") == 4 and '"' not in line
    assert r"x\u{20}identity\u{3d}root\u{20}code\u{3d}\u{22}OK\u{22}\u{20}\u{5c}u{20}" in line


def test_percent_signs_are_no_format(caplog):
    assert line_of(caplog, method="/%s/%d%(x)s").startswith("/%s/%d%(x)s peer=")


def test_names_in_any_language_stay_as_they_are(caplog):
    assert " identity=José-Łukasz-健太 " in line_of(caplog, identity="José-Łukasz-健太")


def test_every_kind_of_rpc_is_logged(caplog):
    def probe(context):
        raise yais.NotFound("no such thing")

    def logged():
        return {record.method: record.code for record in caplog.records if record.name == "yais.access"}

    token = [("authorization", "Bearer x")]
    with every_kind(lambda _context: b"fine", AccessLog(), BearerToken({"alice": "x"})) as every:
        for kind in PATHS:
            every.call(kind, token)
        eventually(lambda: len(logged()) == len(PATHS))
    assert logged() == dict.fromkeys(PATHS.values(), "OK")
    assert len(caplog.records) == len(PATHS)
    assert {record.identity for record in caplog.records} == {"alice"}
    assert all(record.peer.startswith("ipv4:127.0.0.1:") for record in caplog.records)
    caplog.clear()
    with every_kind(probe, AccessLog()) as every:
        for kind in CONTEXTS:
            every.fail(kind)
        eventually(lambda: len(logged()) == len(CONTEXTS))
    assert set(logged().values()) == {"NOT_FOUND"}
