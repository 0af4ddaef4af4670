"""Configurations that Python models fill in."""

from __future__ import annotations

import pytest

from yais.engines.auto_complete import AutoCompleteConfig

X = {"name": "x", "data_type": "TYPE_FP32", "dims": [4]}
EMPTY = {"name": "m", "max_batch_size": 0, "input": [], "output": []}


def completed(**fields):
    return AutoCompleteConfig({**EMPTY, **fields})


def test_what_is_missing_is_set():
    config = completed()
    config.add_input({**X, "optional": True})
    config.add_output({**X, "name": "y", "dims": (2, -1)})
    config.set_max_batch_size(8)
    config.set_dynamic_batching()
    config.set_model_transaction_policy({"decoupled": True})
    assert config.as_dict() == {
        "name": "m",
        "max_batch_size": 8,
        "input": [{**X, "optional": True}],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [2, -1]}],
        "dynamic_batching": {},
        "model_transaction_policy": {"decoupled": True},
    }


def test_what_is_there_stays():
    config = completed(
        input=[{**X, "format": "FORMAT_NONE"}],
        output=[{"name": "y", "data_type": "TYPE_INVALID", "dims": []}],
        dynamic_batching={"preserve_ordering": True},
        model_transaction_policy={"decoupled": False},
        max_batch_size=4,
    )
    config.add_input(X)
    config.add_output({**X, "name": "y"})
    config.set_dynamic_batching()
    config.set_max_batch_size(4)
    config.set_model_transaction_policy({"decoupled": False})
    config.set_model_transaction_policy({})
    known = config.as_dict()
    assert known["input"] == [{**X, "format": "FORMAT_NONE"}]
    assert known["output"] == [{**X, "name": "y"}]
    assert known["dynamic_batching"] == {"preserve_ordering": True}


def test_another_scheduler_stays():
    config = completed(sequence_batching={})
    config.set_dynamic_batching()
    assert "dynamic_batching" not in config.as_dict()


def test_the_given_dict_and_copies_are_apart():
    given = {**EMPTY, "input": [dict(X)]}
    config = AutoCompleteConfig(given)
    config.as_dict()["input"].clear()
    config.add_input({**X, "name": "z"})
    assert len(given["input"]) == 1 and len(config.as_dict()["input"]) == 2


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (
            lambda c: c.add_input({**X, "reshape": []}),
            "input .* contains property 'reshape', expected name, ",
        ),
        (lambda c: c.add_output({**X, "optional": True}), "output .* contains property 'optional'"),
        (lambda c: c.add_input({"name": "x", "dims": []}), "input .* is missing 'data_type' property"),
        (
            lambda c: c.add_output({"data_type": "TYPE_FP32", "dims": []}),
            "output .* is missing 'name' property",
        ),
        (
            lambda c: c.add_input({**X, "name": "known", "data_type": "TYPE_INT8"}),
            "expects data_type TYPE_FP32 for input 'known', model provides TYPE_INT8",
        ),
        (
            lambda c: c.add_input({**X, "name": "known", "dims": [5]}),
            r"expects dims \[4\] for input 'known', model provides \[5\]",
        ),
        (lambda c: c.set_max_batch_size(1), "max_batch_size 2, .* specified max_batch_size 1"),
        (lambda c: c.set_model_transaction_policy({"decouple": True}), "other than 'decoupled': 'decouple'"),
        (lambda c: c.set_model_transaction_policy({"decoupled": True}), "already set to 'False'"),
    ],
)
def test_contradictions(call, why):
    config = completed(
        input=[{**X, "name": "known"}], max_batch_size=2, model_transaction_policy={"decoupled": False}
    )
    with pytest.raises(ValueError, match=why):
        call(config)
