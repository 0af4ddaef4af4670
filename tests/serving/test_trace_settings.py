"""Trace settings: what clients may say, what is in force then, and which requests that picks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.errors import InvalidArgument, Unimplemented
from yais.serving.trace_change import TraceChange
from yais.serving.trace_settings import TraceOptions, TraceSetting, TraceSettings, TraceValues

START = {"level": ("OFF",), "rate": 1000, "count": -1, "log_frequency": 0}


def said(setting):
    values = setting.values
    return {name: getattr(values, name) for name in START}


# --- What clients say ---------------------------------------------------------------------------------


def test_what_is_said():
    change = TraceChange.parse(
        {
            "trace_level": ["TENSORS", "TIMESTAMPS"],
            "trace_rate": ["5"],
            "trace_count": ["-1"],
            "log_frequency": [],
        }
    )
    assert change.values == {"level": ("TIMESTAMPS", "TENSORS"), "rate": 5, "count": -1}
    assert change.cleared == {"log_frequency"}


RANGE = "value is out of range [ 0, 4294967295 ], got: "

WRONG = [
    ({"trace_level": ["OFF", "TENSORS"]}, "Expect only one trace level 'OFF' is specified"),
    ({"trace_level": ["MIN"]}, "got trace level 'MIN', expected OFF, TIMESTAMPS or TENSORS"),
    ({"trace_rate": ["1", "2"]}, "expect only 1 value for 'trace_rate'"),
    ({"trace_rate": ["often"]}, "Unable to parse 'trace_rate', got: often"),
    ({"trace_rate": [""]}, "Unable to parse 'trace_rate', got: "),
    ({"trace_rate": ["10000000000"]}, f"Unable to parse 'trace_rate', {RANGE}10000000000"),
    ({"trace_rate": ["-1"]}, f"Unable to parse 'trace_rate', {RANGE}-1"),
    ({"log_frequency": ["10000000000"]}, f"Unable to parse 'log_frequency', {RANGE}10000000000"),
    ({"log_frequency": ["0", "0"]}, "expect only 1 value for 'log_frequency'"),
    ({"trace_count": ["-2"]}, "Unable to parse 'trace_count'. Expecting value >= -1, got: -2"),
    (
        {"trace_count": ["10000000000"]},
        "Unable to parse 'trace_count', value is out of range [ -1, 2147483647 ], got: 10000000000",
    ),
    ({"trace_count": ["1.5"]}, "Unable to parse 'trace_count', got: 1.5"),
]


@pytest.mark.parametrize(("settings", "text"), WRONG)
def test_what_is_none(settings, text):
    with pytest.raises(InvalidArgument) as caught:
        TraceChange.parse(settings)
    assert str(caught.value) == text


def test_the_file_is_fixed():
    with pytest.raises(Unimplemented):
        TraceChange.parse({"trace_rate": ["x"], "trace_file": []})


# --- What is in force ---------------------------------------------------------------------------------

LEVELS = st.sampled_from([("OFF",), ("TIMESTAMPS",), ("TIMESTAMPS", "TENSORS")])

VALUES = st.fixed_dictionaries(
    {},
    optional={
        "level": LEVELS,
        "rate": st.integers(0, 3),
        "count": st.integers(-1, 3),
        "log_frequency": st.integers(0, 2),
    },
)

UPDATES = st.lists(st.tuples(st.sampled_from(["", "a", "b"]), VALUES, st.sets(st.sampled_from(list(START)))))


class Naive:
    """What was said of whom; what is in force is looked up. Nothing is ever picked."""

    def __init__(self):
        self.said = {"": {}, "a": {}, "b": {}}

    def of(self, model):
        return {**START, **self.said[""], **self.said[model]}

    def update(self, model, values, cleared):
        before = {name: dict(own) for name, own in self.said.items()}
        own = {name: value for name, value in self.said[model].items() if name not in cleared}
        self.said[model] = {**own, **values}
        for name in self.said if not model else [model]:
            if name and not self.said[name]:
                continue
            of = self.of(name)
            if of["level"] != ("OFF",) and not of["rate"]:
                self.said = before
                return False
        return True


@given(UPDATES)
def test_what_is_in_force(updates):
    settings, naive = TraceSettings(TraceOptions(file="x")), Naive()
    for model, values, cleared in updates:
        change = TraceChange(values, frozenset(cleared - set(values)))
        old = settings.of(model) if model == "" or settings.of(model) is not settings.of("") else None
        try:
            replaced = settings.update(model, change)
        except InvalidArgument:
            assert not naive.update(model, values, change.cleared)
        else:
            assert naive.update(model, values, change.cleared)
            assert old is None or old in replaced
        for name in ("", "a", "b"):
            assert said(settings.of(name)) == naive.of(name)


def test_settings_are_replaced_with_those_they_follow():
    settings = TraceSettings(TraceOptions(file="x", level=("TIMESTAMPS",)))
    settings.update("a", TraceChange({"rate": 5}))
    before = settings.every()
    assert settings.update("", TraceChange({"count": 7})) == before
    assert said(settings.of("a")) == {**START, "level": ("TIMESTAMPS",), "rate": 5, "count": 7}


def test_a_count_goes_on_from_where_it_is():
    settings = TraceSettings(TraceOptions(file="x", level=("TIMESTAMPS",), rate=1, count=9))
    settings.update("a", TraceChange({"count": 5}))
    assert settings.of("a").sample()
    settings.update("a", TraceChange({"rate": 1}))
    assert settings.of("a").values.count == 4
    assert settings.of("").values.count == 9


# --- What is picked -----------------------------------------------------------------------------------


def setting(level=("TIMESTAMPS",), rate=1, count=-1):
    return TraceSetting(TraceValues(level, rate, count, 0))


@given(st.integers(1, 5), st.integers(-1, 5), st.integers(0, 40))
def test_one_of_so_many_until_there_are_enough(rate, count, requests):
    picking = setting(rate=rate, count=count)
    picked = [number for number in range(1, requests + 1) if picking.sample()]
    expected = [number for number in range(1, requests + 1) if number % rate == 0]
    assert picked == (expected if count < 0 else expected[:count])
    assert picking.created == len(picked)
    assert picking.remaining == (-1 if count < 0 else count - len(picked))
    assert picking.on == (picking.remaining != 0)


def test_callers_that_are_traced_themselves():
    """They count for nothing, and a rate of 0 picks no others."""
    picking = setting(rate=0, count=1)
    assert not picking.sample()
    assert picking.sample(always=True)
    assert picking.sample(always=True)
    assert picking.remaining == 1
    picking.retire()
    assert not picking.sample(always=True)
