"""Models that need others: loaded with them, and never without them."""

from __future__ import annotations

import shutil
import threading

import pytest
from onnx_models import write
from repositories import (
    PYTHON,
    READY,
    SOON,
    UNAVAILABLE,
    adder,
    ask,
    entry_of,
    states,
    write_adder,
    write_ensemble,
)
from serving_models import eventually

from yais.errors import InvalidArgument, NotFound, YaisError
from yais.repository.repository import ControlMode


@pytest.fixture
def models(tmp_path):
    """An ensemble of an ensemble: `sum` is 1 + 10 and `more` is 1 + 10 + 100."""
    for name, number in (("one", 1), ("ten", 10), ("hundred", 100)):
        write_adder(tmp_path, name, number, config="max_batch_size: 4")
    write_ensemble(tmp_path, "sum", "one", "ten")
    write_ensemble(tmp_path, "more", "sum", "hundred")
    return tmp_path


@pytest.fixture
def explicit(make_repository, models):
    """A repository of them, none loaded."""
    repository = make_repository(models, control=ControlMode.EXPLICIT)
    repository.load_all()
    return repository


def ready(repository):
    return {name for name, versions in states(repository).items() if ("1", READY) in versions}


def lost(repository, name, needed):
    entry = entry_of(repository, name)
    text = f"ensemble '{name}' depends on '{needed}' which has no loaded version"
    return (entry.state, entry.reason) == (UNAVAILABLE, text)


@pytest.mark.parametrize("control", ControlMode)
def test_all_of_them(make_repository, models, control):
    repository = make_repository(models, control=control, load=("*",))
    repository.load_all()
    assert repository.ready
    assert (ask(repository, "sum"), ask(repository, "more")) == (11, 111)


def test_an_ensemble_brings_what_it_needs(explicit):
    explicit.load("more").result(SOON)
    assert ready(explicit) == {"one", "ten", "hundred", "sum", "more"}
    assert ask(explicit, "more") == 111


def test_loads_at_once(explicit):
    loads = [explicit.load(name) for name in ("more", "sum", "one", "more", "ten", "sum")]
    for loading in loads:
        loading.result(SOON)
    assert ask(explicit, "more") == 111


def test_unload_without_dependents(explicit):
    explicit.load("sum").result(SOON)
    explicit.unload("sum").result(SOON)
    assert ready(explicit) == {"one", "ten"}


def test_unload_with_dependents(explicit):
    explicit.load("more").result(SOON)
    explicit.unload("more", dependents=True).result(SOON)
    assert ready(explicit) == set()


def test_dependents_that_others_need_or_somebody_asked_for_stay(explicit):
    """As in Triton."""
    explicit.load("ten").result(SOON)
    explicit.load("more").result(SOON)
    explicit.load("sum").result(SOON)
    explicit.unload("more", dependents=True).result(SOON)
    assert ready(explicit) == {"one", "ten", "sum"}  # sum was asked for, and needs one
    explicit.unload("sum", dependents=True).result(SOON)
    assert ready(explicit) == {"ten"}


def test_what_an_ensemble_needs_is_unloaded(explicit):
    explicit.load("more").result(SOON)
    explicit.unload("ten").result(SOON)
    assert ready(explicit) == {"one", "hundred"}
    assert lost(explicit, "sum", "ten")
    assert lost(explicit, "more", "sum")
    assert not explicit.ready
    with pytest.raises(NotFound):
        explicit.find("more")
    explicit.load("ten").result(SOON)
    assert ready(explicit) == {"one", "ten", "hundred", "sum", "more"}
    assert ask(explicit, "more") == 111


def test_an_unloaded_ensemble_does_not_come_back_by_itself(explicit):
    explicit.load("sum").result(SOON)
    explicit.unload("sum").result(SOON)
    explicit.unload("ten").result(SOON)
    explicit.load("ten").result(SOON)
    assert ready(explicit) == {"one", "ten"}


def test_what_an_ensemble_needs_is_changed(explicit, models):
    explicit.load("more").result(SOON)
    write_adder(models, "ten", 20)
    explicit.load("more").result(SOON)  # brings what has changed below it
    assert ask(explicit, "more") == 121
    write_adder(models, "one", 2)
    explicit.load("one").result(SOON)
    assert ask(explicit, "more") == 122


def test_what_an_ensemble_needs_does_not_fit_any_more(explicit, models):
    explicit.load("sum").result(SOON)
    write(models, "ten", adder(10, name="OTHER"))
    explicit.load("ten").result(SOON)
    entry = entry_of(explicit, "sum")
    assert entry.state is UNAVAILABLE
    assert entry.reason.endswith("is mapping to non-existing input X in model ten")
    write_adder(models, "ten", 30)
    explicit.load("ten").result(SOON)
    assert ask(explicit, "sum") == 31


def test_what_an_ensemble_needs_is_broken(explicit, models):
    write(models, "ten", b"broken")
    with pytest.raises(InvalidArgument, match="'sum' depends on 'ten' which has no loaded version"):
        explicit.load("sum").result(SOON)
    assert lost(explicit, "sum", "ten")
    assert "ONNX" in entry_of(explicit, "ten").reason


def test_a_broken_change_of_what_it_needs_leaves_both(explicit, models):
    explicit.load("sum").result(SOON)
    write(models, "ten", b"broken")
    explicit.load("sum").result(SOON)
    assert ask(explicit, "sum") == 11
    assert "ONNX" in entry_of(explicit, "ten").reason


def test_a_version_that_is_not_loaded(explicit, models):
    path = models / "sum" / "config.pbtxt"
    path.write_text(path.read_text().replace("model_version: -1", "model_version: 7", 1))
    with pytest.raises(
        InvalidArgument, match="'sum' depends on 'one' whose required version 7 is not loaded"
    ):
        explicit.load("sum").result(SOON)


@pytest.mark.parametrize("control", ControlMode)
@pytest.mark.parametrize("circle", [("a",), ("a", "b"), ("a", "b", "c")])
def test_circles(make_repository, tmp_path, control, circle):
    for name, needed in zip(circle, circle[1:] + circle[:1], strict=True):
        write_ensemble(tmp_path, name, needed)
    write_adder(tmp_path, "good", 1)
    repository = make_repository(tmp_path, control=control, load=("*",))
    repository.load_all()
    assert ready(repository) == {"good"}
    assert all("depends on" in entry_of(repository, name).reason for name in circle)
    if control is ControlMode.EXPLICIT:
        loads = [repository.load(name) for name in (*circle, *circle)]
        assert all(isinstance(loading.exception(SOON), YaisError) for loading in loads)


def test_what_an_ensemble_needs_comes_and_goes(make_repository, models, tmp_path):
    (models / "ten").rename(models / ".ten")
    repository = make_repository(models, control=ControlMode.POLL, poll_seconds=0.02)
    repository.load_all()
    assert lost(repository, "sum", "ten")
    assert ready(repository) == {"one", "hundred"}
    (models / ".ten").rename(models / "ten")
    eventually(lambda: "more" in ready(repository))
    assert ask(repository, "more") == 111
    shutil.rmtree(models / "one")
    eventually(lambda: lost(repository, "sum", "one") and ready(repository) == {"ten", "hundred"})


SLOW = """
import yais_test_gate
class Model:
    def execute(self, inputs):
        yais_test_gate.began.set()
        assert yais_test_gate.opened.wait(20)
        return {"Y": inputs["X"] + 5}
"""


def test_requests_in_flight_end_before_what_they_need_goes(explicit, models, monkeypatch):
    import sys
    import types

    gate = types.ModuleType("yais_test_gate")
    gate.began, gate.opened = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, "yais_test_gate", gate)
    write(models, "slow", SLOW.encode(), PYTHON.format(""), filename="model.py")
    write_ensemble(models, "both", "slow", "one")
    explicit.load("both").result(SOON)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(ask(explicit, "both")))
    asking.start()
    assert gate.began.wait(SOON)
    unloading = explicit.unload("both", dependents=True)
    eventually(lambda: "both" not in ready(explicit))
    assert {"slow", "one"} <= ready(explicit)
    gate.opened.set()
    unloading.result(SOON)
    asking.join(SOON)
    assert answers == [6]
    assert ready(explicit) == set()


PIPELINE = """
async def pipeline(inputs, models):
    first = await models["one"].infer(X=inputs["X"])
    return await models["ten"].infer(X=first["Y"])
"""


def test_a_pipeline_finds_its_models_when_it_runs(explicit, models):
    write(models, "line", PIPELINE.encode(), PYTHON.format(""), filename="model.py")
    explicit.load("line").result(SOON)
    with pytest.raises(NotFound, match="'one' is not found"):
        ask(explicit, "line")
    for name in ("one", "ten"):
        explicit.load(name).result(SOON)
    assert ask(explicit, "line") == 11
    explicit.unload("line").result(SOON)
    assert ready(explicit) == {"one", "ten"}
