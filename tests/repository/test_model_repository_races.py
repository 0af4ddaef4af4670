"""What is asked for at once, of models that need each other, and of models that do not come to an end."""

from __future__ import annotations

import concurrent.futures
import os
import random
import shutil
import sys
import threading
import types

import pytest
from onnx_models import identity, write
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

from yais.errors import Internal, InvalidArgument, NotFound, Unavailable, YaisError
from yais.repository.repository import ControlMode, ModelState

WAITS = """
import yais_test_gate
class Model:
    def {when}(self, *_):
        yais_test_gate.began.set()
        assert yais_test_gate.opened.wait(20)
    def execute(self, inputs):
        {first}
        return {{"Y": inputs["X"] + 5}}
"""


@pytest.fixture
def gate(monkeypatch):
    """A module that models can import to wait for the test."""
    module = types.ModuleType("yais_test_gate")
    module.began, module.opened, module.finalized = threading.Event(), threading.Event(), []
    monkeypatch.setitem(sys.modules, "yais_test_gate", module)
    yield module
    module.opened.set()


@pytest.fixture
def models(tmp_path):
    """Models that add 1 and 10, and `sum` of the two."""
    for name, number in (("one", 1), ("ten", 10)):
        write_adder(tmp_path, name, number, config="max_batch_size: 4")
    write_ensemble(tmp_path, "sum", "one", "ten")
    return tmp_path


@pytest.fixture
def explicit(make_repository, models):
    repository = make_repository(models, control=ControlMode.EXPLICIT, load_threads=2)
    repository.load_all()
    return repository


def write_waiting(root, name, when):
    """Write a model that waits for the gate when it is initialized, when it is asked, or when it ends."""
    method = {"asked": "wait"}.get(when, when)
    code = WAITS.format(when=method, first="self.wait()" if when == "asked" else "pass")
    write(root, name, code.encode(), PYTHON.format(""), filename="model.py")


def ready(repository):
    return {name for name, versions in states(repository).items() if ("1", READY) in versions}


def asking(repository, name):
    """Ask a model on a thread; return that, and where the answer will be."""
    answers = []

    def work():
        try:
            answers.append(ask(repository, name))
        except YaisError as error:
            answers.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, answers


def test_all_that_need_what_came_back_are_loaded_again(explicit, models):
    """Also when it came back for another that needs it."""
    write_ensemble(models, "first", "one")
    for name in ("sum", "first"):
        explicit.load(name).result(SOON)
    explicit.unload("one").result(SOON)
    assert ready(explicit) == {"ten"}
    explicit.load("first").result(SOON)
    assert ready(explicit) == {"one", "ten", "first", "sum"}
    write(models, "one", adder(1, name="OTHER"))
    with pytest.raises(InvalidArgument, match="non-existing input X"):
        explicit.load("first").result(SOON)
    assert ready(explicit) == {"one", "ten"}  # `sum` does not fit any more, either
    write_adder(models, "one", 2)
    explicit.load("sum").result(SOON)
    assert (ask(explicit, "sum"), ask(explicit, "first")) == (12, 2)


def test_what_was_lacking_deep_down_is_tried_again(explicit, models):
    write_ensemble(models, "more", "sum")
    write(models, "ten", b"broken")
    with pytest.raises(InvalidArgument, match="'more' depends on 'sum'"):
        explicit.load("more").result(SOON)
    write_adder(models, "ten", 10, config="max_batch_size: 4")
    explicit.load("more").result(SOON)
    assert ask(explicit, "more") == 11


def test_a_circle_that_is_closed_by_a_new_configuration(explicit, models):
    explicit.load("sum").result(SOON)
    shutil.rmtree(models / "ten")
    write_ensemble(models, "ten", "sum")
    with pytest.raises(InvalidArgument, match="circular dependency between ensembles: ten "):
        explicit.load("ten").result(SOON)
    assert ask(explicit, "sum") == 11
    assert "circular" in entry_of(explicit, "ten").reason
    shutil.rmtree(models / "ten")
    write_adder(models, "ten", 20)
    explicit.load("ten").result(SOON)
    assert ask(explicit, "sum") == 21


def test_a_change_that_lacks_something_leaves_what_serves(explicit, models):
    explicit.load("sum").result(SOON)
    config = models / "sum" / "config.pbtxt"
    text = config.read_text()
    config.write_text(text.replace("model_name: 'one'", "model_name: 'later'"))
    with pytest.raises(InvalidArgument, match="'sum' depends on 'later' which has no loaded version"):
        explicit.load("sum").result(SOON)
    assert ask(explicit, "sum") == 11
    write_adder(models, "later", 100, config="max_batch_size: 4")
    explicit.load("later").result(SOON)
    assert ask(explicit, "sum") == 110


def test_a_broken_change_of_what_an_ensemble_needs_is_not_what_it_needs(explicit, models):
    """What serves still goes with the models that it was loaded with."""
    explicit.load("sum").result(SOON)
    config = models / "sum" / "config.pbtxt"
    text = config.read_text()
    config.write_text(text.replace("model_name: 'one'", "model_name: 'ten'").replace("'Y' data", "'Z' data"))
    with pytest.raises(YaisError):
        explicit.load("sum").result(SOON)
    assert ask(explicit, "sum") == 11
    write_ensemble(models, "first", "one")
    explicit.load("first").result(SOON)
    explicit.unload("first", dependents=True).result(SOON)
    assert ready(explicit) == {"one", "ten", "sum"}
    explicit.unload("one").result(SOON)
    assert ready(explicit) == {"ten"}
    config.write_text(text)
    explicit.load("sum").result(SOON)
    assert ask(explicit, "sum") == 11


def test_requests_end_before_what_they_need_goes_however_deep(explicit, models, gate):
    write_waiting(models, "slow", "asked")
    write_ensemble(models, "inner", "slow", "one")
    write_ensemble(models, "outer", "slow", "inner")
    explicit.load("outer").result(SOON)
    thread, answers = asking(explicit, "outer")
    assert gate.began.wait(SOON)
    unloading = explicit.unload("one")
    eventually(lambda: "outer" not in ready(explicit))
    explicit.load("ten").result(SOON)  # time for what must not happen
    assert {"inner", "one"} <= ready(explicit)
    gate.opened.set()
    unloading.result(SOON)
    thread.join(SOON)
    assert answers == [11]
    assert ready(explicit) == {"slow", "ten"}


def test_what_an_unloaded_ensemble_still_uses_is_not_taken_away(explicit, models, gate):
    write_waiting(models, "slow", "asked")
    write_ensemble(models, "both", "slow", "one")
    explicit.load("both").result(SOON)
    thread, answers = asking(explicit, "both")
    assert gate.began.wait(SOON)
    explicit.unload("both").result(SOON)
    unloading = explicit.unload("one")
    explicit.load("ten").result(SOON)  # time for what must not happen
    assert not unloading.done()
    gate.opened.set()
    unloading.result(SOON)
    thread.join(SOON)
    assert answers == [6]


def test_what_another_ensemble_is_being_loaded_with_stays(explicit, models, gate):
    write_waiting(models, "slow", "initialize")
    write_ensemble(models, "both", "slow", "one")
    explicit.load("sum").result(SOON)
    loading = explicit.load("both")
    assert gate.began.wait(SOON)
    explicit.unload("sum", dependents=True).result(SOON)
    gate.opened.set()
    loading.result(SOON)
    assert ready(explicit) == {"slow", "one", "both"}


def test_an_ensemble_comes_back_as_a_client_wanted_it(explicit):
    config = (
        '{"max_batch_size": 2, "platform": "ensemble",'
        '"input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [-1]}],'
        '"output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [-1]}],'
        '"ensemble_scheduling": {"step": [{"model_name": "ten",'
        '"input_map": {"X": "X"}, "output_map": {"Y": "Y"}}]}}'
    )
    explicit.load("sum", config).result(SOON)
    assert ask(explicit, "sum") == 10
    explicit.unload("ten").result(SOON)
    assert ready(explicit) == set()
    explicit.load("ten").result(SOON)
    assert ask(explicit, "sum") == 10


def test_files_of_a_client_are_kept_while_they_are_used(explicit, models):
    """An ensemble that is loaded again since what it needs has changed reads its labels again."""
    config = (
        '{"max_batch_size": 2, "platform": "ensemble",'
        '"input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [-1]}],'
        '"output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [-1], "label_filename": "l.txt"}],'
        '"ensemble_scheduling": {"step": [{"model_name": "ten",'
        '"input_map": {"X": "X"}, "output_map": {"Y": "Y"}}]}}'
    )
    explicit.load("sum", config, {"l.txt": b"a\nb\n", "1/empty": b""}).result(SOON)
    for number in (20, 30, 40):
        write_adder(models, "ten", number)
        explicit.load("ten").result(SOON)
        assert ask(explicit, "sum") == number
        assert explicit.find("sum").labels == {"Y": ["a", "b"]}
        eventually(lambda: not explicit._retirement._threads)
    explicit.unload("ten").result(SOON)
    explicit.load("ten").result(SOON)
    assert entry_of(explicit, "sum").state is UNAVAILABLE  # the files went with it


def test_the_index_does_not_wait_for_models(explicit, models, gate):
    for name in ("slow", "slower", "slowest"):
        write_waiting(models, name, "initialize")
    loads = [explicit.load(name) for name in ("slow", "slower", "slowest")]
    assert gate.began.wait(SOON)
    eventually(lambda: states(explicit).get("slowest") == [("1", ModelState.LOADING)])
    assert {entry.name for entry in explicit.index().result(SOON)} >= {"slow", "one", "ten"}
    with pytest.raises(Internal):
        explicit.load("none").result(SOON)
    gate.opened.set()
    for loading in loads:
        loading.result(SOON)


def test_a_model_that_does_not_end_keeps_no_other_from_it(make_repository, models, gate):
    write_waiting(models, "stuck", "finalize")
    ends = (
        "import yais_test_gate, sys\nclass Model:\n    def execute(self, inputs): return {'Y': inputs['X']}\n"
    )
    for name in ("exits", "fails"):
        end = "sys.exit(3)" if name == "exits" else "1 / 0"
        code = f"{ends}    def finalize(self): yais_test_gate.finalized.append('{name}'); {end}\n"
        write(models, name, code.encode(), PYTHON.format(""), filename="model.py")
    repository = make_repository(models)
    repository.load_all()
    assert ready(repository) == {"one", "ten", "sum", "stuck", "exits", "fails"}
    assert not repository.close(0.5)
    assert sorted(gate.finalized) == ["exits", "fails"]
    gate.opened.set()
    assert repository.close(SOON)


@pytest.mark.parametrize(
    ("code", "start", "longest"),
    [
        ("raise ValueError(chr(0xDC80))", "ValueError: \\udc80", 300),
        ("raise ValueError('x' * 100_000)", "ValueError: xxxx", 2004),
    ],
)
def test_reasons_can_be_told(explicit, models, code, start, longest):
    write(models, "bad", code.encode(), PYTHON.format(""), filename="model.py")
    with pytest.raises(InvalidArgument):
        explicit.load("bad").result(SOON)
    reason = entry_of(explicit, "bad").reason
    assert start in reason.encode().decode()
    assert len(reason) <= longest


def test_names_that_no_client_can_be_told(explicit, models):
    os.mkdir(os.fsencode(models) + b"/bad\xff")
    assert {entry.name for entry in explicit.index().result(SOON)} == {"one", "ten", "sum"}


def test_names_at_the_start_that_no_model_can_have(make_repository, tmp_path):
    write_adder(tmp_path / "roots" / "first", "a", 1)
    write_adder(tmp_path / "roots", "b", 2)
    load = ("*", "", "a/", "../b", "x" * 300, "gone")
    repository = make_repository(tmp_path / "roots" / "first", control=ControlMode.EXPLICIT, load=load)
    repository.load_all()
    assert ready(repository) == {"a"}
    assert set(states(repository)) == {*load, "a"} - {"*"}
    assert "path traversal" in entry_of(repository, "../b", "").reason
    assert "got a model name of 300 bytes, expected 255" in entry_of(repository, "x" * 300, "").reason


def test_nothing_is_remembered_of_names_that_stand_for_nothing(explicit):
    for number in range(20):
        with pytest.raises(Internal):
            explicit.load(f"none{number}").result(SOON)
        explicit.unload(f"none{number}", dependents=True).result(SOON)
    assert not explicit._lifecycle._records
    explicit.load("one").result(SOON)
    assert list(explicit._lifecycle._records) == ["one"]


def test_what_serves_is_not_loaded_again_when_the_change_is_taken_back(explicit, models):
    explicit.load("one").result(SOON)
    serving = explicit.find("one")
    config, aside = models / "one" / "config.pbtxt", models / "aside"
    shutil.copytree(models / "one", aside)
    config.rename(models / "kept")
    config.write_text("max_batch_size: [[")
    with pytest.raises(Internal):
        explicit.load("one").result(SOON)
    assert entry_of(explicit, "one").reason
    with pytest.raises(Internal):
        explicit.load("one", "{").result(SOON)
    os.replace(models / "kept", config)
    os.utime(config, ns=(1, 1))
    explicit.load("one").result(SOON)
    again = explicit.find("one")
    assert again is not serving  # another time
    with pytest.raises(Internal):
        explicit.load("one", "{").result(SOON)
    explicit.load("one").result(SOON)
    assert explicit.find("one") is again
    assert entry_of(explicit, "one").reason == ""
    write(models, "one", b"broken", version="2")
    with pytest.raises(InvalidArgument):
        explicit.load("one").result(SOON)
    assert states(explicit)["one"] == [("1", READY), ("2", UNAVAILABLE)]
    shutil.rmtree(models / "one" / "2")
    explicit.load("one").result(SOON)
    assert explicit.find("one") is again
    assert states(explicit)["one"] == [("1", READY)]
    assert (entry_of(explicit, "one").reason, explicit.ready) == ("", True)
    record = explicit._lifecycle._records["one"]
    assert record.tried is record.good  # so that a poll finds nothing to do


def test_anything_at_once(explicit, models):
    """Whatever the order, every future is done, and in the end the index is what can be asked."""
    chance = random.Random(4)
    write_ensemble(models, "more", "sum", "one")
    names = ("one", "ten", "sum", "more", "none")
    for turn in range(5):
        futures = []
        for _ in range(25):
            name = chance.choice(names)
            what = chance.randrange(4)
            if what == 0:
                futures.append(explicit.unload(name, dependents=chance.random() < 0.5))
            elif what == 1 and name in {"one", "ten"}:
                write_adder(models, name, turn * 100 + len(futures))
            else:
                futures.append(explicit.load(name))
        for future in futures:
            assert isinstance(future.exception(SOON), Internal | InvalidArgument | None)
        eventually(lambda: not explicit._retirement._threads)
        found = states(explicit)
        assert {state for versions in found.values() for _, state in versions} <= {READY, UNAVAILABLE}
        for name in found:
            if name in ready(explicit):
                ask(explicit, name)
            else:
                with pytest.raises((NotFound, Unavailable)):
                    explicit.find(name)
    for name in ("more", "one", "ten"):
        explicit.load(name).result(SOON)
    assert ready(explicit) == set(names) - {"none"}
    for name in ("more", "sum", "one", "ten"):
        explicit.unload(name).result(SOON)
    eventually(lambda: not explicit._retirement._alive)


@pytest.mark.parametrize("delay", [0.0, 0.001, 0.01, 0.05])
def test_closed_in_the_middle_of_anything(make_repository, models, tmp_path, monkeypatch, delay):
    """Every future is done then, and nothing is left in memory or on the disk."""
    made = tmp_path / ".temporary"
    made.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(made))
    repository = make_repository(models, control=ControlMode.EXPLICIT)
    repository.load_all()
    files = {"1/model.onnx": identity("FP32").SerializeToString()}
    futures = [repository.load("sum"), repository.load("sent", "{}", files), repository.unload("one")]
    futures += [repository.index(), repository.load("one"), repository.unload("sum", dependents=True)]
    threading.Event().wait(delay)
    assert repository.close(SOON)
    for future in futures:
        assert concurrent.futures.wait([future], SOON).done == {future}
    assert not repository._retirement._alive
    assert list(made.iterdir()) == []
    with pytest.raises(Unavailable):
        repository.load("one")
