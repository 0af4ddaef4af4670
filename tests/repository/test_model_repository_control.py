"""Models that are loaded and unloaded as somebody asks."""

from __future__ import annotations

import gc
import json
import shutil
import threading
import weakref
from pathlib import Path

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
)
from serving_models import eventually

from yais.errors import Internal, InvalidArgument, NotFound, Unavailable
from yais.repository.loader import ConfigDefaults
from yais.repository.repository import ControlMode, ModelState


@pytest.fixture
def explicit(make_repository):
    """Return a function that makes repositories whose models are loaded as one asks."""

    def make(*roots, **options):
        repository = make_repository(*roots, control=ControlMode.EXPLICIT, **options)
        repository.load_all()
        return repository

    return make


@pytest.mark.parametrize("mode", [ControlMode.NONE, ControlMode.POLL])
def test_only_in_explicit_mode(make_repository, tmp_path, mode):
    repository = make_repository(tmp_path, control=mode)
    repository.load_all()
    for ask_for in (repository.load, repository.unload):
        with pytest.raises(Unavailable) as caught:
            ask_for("model")
        assert str(caught.value) == "explicit model load / unload is not allowed if polling is enabled"


@pytest.mark.parametrize(
    ("chosen", "loaded"),
    [((), []), (("b",), ["b"]), (("*",), ["a", "b", "c"]), (("c", "a", "c"), ["a", "c"])],
)
def test_what_is_loaded_at_the_start(explicit, tmp_path, chosen, loaded):
    for name in ("a", "b", "c"):
        write_adder(tmp_path, name, 1)
    repository = explicit(tmp_path, load=chosen)
    assert states(repository) == {name: [("1", READY)] for name in loaded}
    index = {entry.name: (entry.version, entry.state) for entry in repository.index().result(SOON)}
    never = dict.fromkeys(("a", "b", "c"), ("", ModelState.UNKNOWN))
    assert index == never | dict.fromkeys(loaded, ("1", READY))
    assert repository.ready


def test_what_is_to_be_loaded_at_the_start_and_is_not_there(explicit, tmp_path):
    write_adder(tmp_path, "a", 1)
    repository = explicit(tmp_path, load=("none", "a"))
    assert states(repository) == {"a": [("1", READY)], "none": [("", UNAVAILABLE)]}
    assert not repository.ready


def test_load_and_unload(explicit, tmp_path):
    write_adder(tmp_path, "a", 7)
    repository = explicit(tmp_path)
    with pytest.raises(NotFound, match=r"^Request for unknown model: 'a' is not found$"):
        repository.find("a")
    repository.load("a").result(SOON)
    assert ask(repository, "a") == 7
    repository.unload("a").result(SOON)
    with pytest.raises(NotFound, match=r"^Request for unknown model: 'a' has no available versions$"):
        repository.find("a")
    with pytest.raises(
        Unavailable, match=r"^Request for unknown model: 'a' version 1 is not at ready state$"
    ):
        repository.find("a", "1")
    eventually(lambda: entry_of(repository, "a").state is UNAVAILABLE)
    assert entry_of(repository, "a").reason == "unloaded"
    assert repository.ready  # it need not be there
    repository.load("a").result(SOON)
    assert ask(repository, "a") == 7


def test_unload_what_is_not_there(explicit, tmp_path):
    write_adder(tmp_path, "a", 1)
    repository = explicit(tmp_path)
    for name in ("a", "none", "../a", "x" * 300):  # as in Triton
        repository.unload(name).result(SOON)
    for name in ("", " "):
        with pytest.raises(InvalidArgument, match=r"^Model name cannot be empty"):
            repository.unload(name)
    assert repository.entries == []


def test_load_what_is_not_there(explicit, tmp_path):
    repository = explicit(tmp_path)
    with pytest.raises(Internal) as caught:
        repository.load("none").result(SOON)
    text = "failed to load 'none', failed to poll from model repository: no repository has a directory 'none'"
    assert str(caught.value) == text
    assert repository.entries == []
    assert repository.ready


@pytest.mark.parametrize("name", ["", " ", "../a", ".."])
def test_names_that_no_model_can_have(explicit, tmp_path, name):
    with pytest.raises(InvalidArgument):
        explicit(tmp_path).load(name)


def test_load_what_is_broken(explicit, tmp_path):
    write(tmp_path, "a", b"broken")
    repository = explicit(tmp_path)
    for _ in range(2):
        with pytest.raises(InvalidArgument, match=r"^load failed for model 'a': version 1 is at UNAVAILABLE"):
            repository.load("a").result(SOON)
        assert not repository.ready
    write_adder(tmp_path, "a", 3)
    repository.load("a").result(SOON)
    assert ask(repository, "a") == 3
    assert repository.ready


def test_loaded_again_only_if_it_has_changed(explicit, tmp_path):
    write_adder(tmp_path, "a", 1)
    repository = explicit(tmp_path, load=("a",))
    first = repository.find("a")
    repository.load("a").result(SOON)
    assert repository.find("a") is first
    write_adder(tmp_path, "a", 2)
    repository.load("a").result(SOON)
    assert ask(repository, "a") == 2
    assert states(repository) == {"a": [("1", READY)]}
    write_adder(tmp_path, "a", 3, version="2")
    repository.load("a").result(SOON)
    assert ask(repository, "a") == 3
    eventually(lambda: states(repository) == {"a": [("1", UNAVAILABLE), ("2", READY)]})
    assert repository.ready


def test_a_broken_change_leaves_what_serves(explicit, tmp_path):
    write_adder(tmp_path, "a", 1)
    repository = explicit(tmp_path, load=("a",))
    write(tmp_path, "a", b"broken")
    with pytest.raises(InvalidArgument, match="ONNX Runtime cannot load the model"):
        repository.load("a").result(SOON)
    assert ask(repository, "a") == 1
    entry = entry_of(repository, "a")
    assert (entry.state, entry.reason[:27]) == (READY, "ONNX Runtime cannot load th")
    write(tmp_path, "a", None, "max_batch_size: [[")
    with pytest.raises(
        Internal, match=r"^failed to load 'a', failed to poll from model repository: failed to"
    ):
        repository.load("a").result(SOON)
    assert ask(repository, "a") == 1
    assert entry_of(repository, "a").reason.startswith("failed to read text proto from ")
    write_adder(tmp_path, "a", 2, config="")
    repository.load("a").result(SOON)
    assert (ask(repository, "a"), entry_of(repository, "a").reason) == (2, "")


def test_a_broken_new_version_leaves_the_old_one(explicit, tmp_path):
    write_adder(tmp_path, "a", 1)
    repository = explicit(tmp_path, load=("a",))
    write(tmp_path, "a", b"broken", version="2")
    with pytest.raises(InvalidArgument, match="version 2 is at UNAVAILABLE state"):
        repository.load("a").result(SOON)
    assert ask(repository, "a") == 1
    assert states(repository) == {"a": [("1", READY), ("2", UNAVAILABLE)]}
    shutil.rmtree(tmp_path / "a" / "2")
    repository.load("a").result(SOON)
    assert states(repository) == {"a": [("1", READY)]}


def test_a_directory_that_has_gone_is_still_served(explicit, tmp_path):
    write_adder(tmp_path, "a", 1)
    repository = explicit(tmp_path, load=("a",))
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(Internal):
        repository.load("a").result(SOON)
    assert ask(repository, "a") == 1
    repository.unload("a").result(SOON)
    with pytest.raises(NotFound):
        repository.find("a")


def test_a_configuration_that_replaces_the_file(explicit, tmp_path):
    write_adder(tmp_path, "a", 1, config="max_batch_size: 4")
    write_adder(tmp_path, "a", 2, version="2")
    repository = explicit(tmp_path, load=("a",))
    config = {"max_batch_size": "16", "version_policy": {"specific": {"versions": [1]}}}
    repository.load("a", json.dumps(config)).result(SOON)
    assert repository.find("a").model.signature.max_batch == 16
    assert ask(repository, "a") == 1
    repository.load("a").result(SOON)
    assert repository.find("a").model.signature.max_batch == 4
    assert ask(repository, "a") == 2


def test_a_configuration_that_is_none(explicit, tmp_path):
    write_adder(tmp_path, "a", 1)
    repository = explicit(tmp_path)
    for config in ("{", '{"max_batch": 1}', '{"max_batch_size": "many"}'):
        with pytest.raises(Internal, match=r"^failed to load 'a', failed to poll from model repository: "):
            repository.load("a", config).result(SOON)
    assert repository.entries == []


def test_files_that_replace_the_directory(explicit, tmp_path, monkeypatch):
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(made))
    root = tmp_path / "models"
    write_adder(root, "a", 1)
    repository = explicit(root, load=("a",))
    files = {"3/model.onnx": adder(5).SerializeToString()}
    repository.load("a", "{}", files).result(SOON)
    assert (ask(repository, "a"), ask(repository, "a", "3")) == (5, 5)
    assert len(list(made.iterdir())) == 1
    repository.load("b", "{}", files).result(SOON)  # no directory at all
    assert ask(repository, "b") == 5
    repository.load("a").result(SOON)
    assert ask(repository, "a") == 1
    repository.unload("b").result(SOON)
    eventually(lambda: not list(made.iterdir()))


@pytest.mark.parametrize(
    ("config", "file", "reason"),
    [
        (None, "1/model.onnx", "got files without the parameter 'config', expected both"),
        ("{}", "../model.onnx", "got file '../model.onnx', expected a path within the model's directory"),
        ("{}", "/model.onnx", "got file '/model.onnx', expected a path within the model's directory"),
        ("{}", "", "got file '', expected a path within the model's directory"),
        ("{}", "1", "at least one version must be available"),
        ("{", "1/model.onnx", "got a 'config' for 'a' that is no model configuration"),
    ],
)
def test_files_that_cannot_be_taken(explicit, tmp_path, monkeypatch, config, file, reason):
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(made))
    repository = explicit(tmp_path)
    with pytest.raises(Internal) as caught:
        repository.load("a", config, {file: b"x"}).result(SOON)
    text = f"failed to load 'a', failed to poll from model repository: {reason}"
    assert str(caught.value).startswith(text)
    assert list(made.iterdir()) == []


def test_broken_files_leave_nothing_behind(explicit, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    repository = explicit(tmp_path)
    with pytest.raises(InvalidArgument):
        repository.load("a", "{}", {"1/model.onnx": b"broken"}).result(SOON)
    assert list(tmp_path.iterdir()) == []


def test_overrides(make_repository, tmp_path, caplog):
    write_adder(tmp_path, "a", 1, config="max_batch_size: 4")
    write_adder(tmp_path, "b", 1, config="max_batch_size: 4")
    write_adder(tmp_path, "c", 1)
    overrides = {"a": ("max_batch_size=2", "max_batch_size=3"), "b": ("max_batch=2",)}
    repository = make_repository(tmp_path, defaults=ConfigDefaults(overrides, max_batch=9))
    repository.load_all()
    assert repository.find("a").model.signature.max_batch == 3
    assert repository.find("c").model.signature.max_batch == 9
    assert "max_batch" in entry_of(repository, "b", "").reason
    assert "fields of model" not in caplog.text


def test_overrides_of_what_is_not_there_are_told(make_repository, tmp_path, caplog):
    defaults = ConfigDefaults({"typo": ("max_batch_size=2",)})
    make_repository(tmp_path, control=ControlMode.EXPLICIT, defaults=defaults).load_all()
    assert "fields of model 'typo' are set, and no repository has it" in caplog.text


def test_without_auto_complete(make_repository, tmp_path):
    write_adder(tmp_path, "a", 1)
    repository = make_repository(tmp_path, defaults=ConfigDefaults(auto_complete=False))
    repository.load_all()
    assert "lacks 'input' or 'output'" in entry_of(repository, "a").reason


ENDINGS = {
    "exits": ("import sys; sys.exit(3)", "SystemExit"),
    "recurses": ("def f(): f()\nf()", "RecursionError"),
    "needs_memory": ("raise MemoryError('no more')", "MemoryError"),
    "stops": ("raise StopIteration", "StopIteration"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_whatever_a_model_raises_is_only_its_reason(explicit, tmp_path, name):
    code, reason = ENDINGS[name]
    write(tmp_path, "bad", code.encode(), PYTHON.format(""), filename="model.py")
    write_adder(tmp_path, "good", 1)
    repository = explicit(tmp_path, load=("*",))
    assert reason in entry_of(repository, "bad").reason
    repository.load("good").result(SOON)
    assert ask(repository, "good") == 1


HANGS = """
import yais_test_gate
class Model:
    def initialize(self, config):
        yais_test_gate.began.set()
        assert yais_test_gate.opened.wait(20)
    def execute(self, inputs):
        return {"Y": inputs["X"] + yais_test_gate.number}
"""


@pytest.fixture
def gate(monkeypatch):
    """A module that models can import to wait for the test."""
    import sys
    import types

    module = types.ModuleType("yais_test_gate")
    module.began, module.opened, module.number = threading.Event(), threading.Event(), 8
    monkeypatch.setitem(sys.modules, "yais_test_gate", module)
    yield module
    module.opened.set()


def test_a_model_that_hangs_stops_no_other_and_its_turns_are_kept(explicit, tmp_path, gate):
    write(tmp_path, "slow", HANGS.encode(), PYTHON.format(""), filename="model.py")
    write_adder(tmp_path, "good", 1)
    repository = explicit(tmp_path)
    loading = repository.load("slow")
    assert gate.began.wait(SOON)
    assert entry_of(repository, "slow").state is ModelState.LOADING
    assert not repository.ready
    unloading, again = repository.unload("slow"), repository.load("slow")
    repository.load("good").result(SOON)
    assert ask(repository, "good") == 1
    assert not (loading.done() or unloading.done() or again.done())
    gate.opened.set()
    again.result(SOON)
    assert loading.result(0) is None
    assert unloading.result(0) is None
    assert ask(repository, "slow") == 8


def test_who_gives_up_waiting_does_not_stop_the_work(explicit, tmp_path, gate):
    write(tmp_path, "slow", HANGS.encode(), PYTHON.format(""), filename="model.py")
    repository = explicit(tmp_path)
    loading = repository.load("slow")
    assert gate.began.wait(SOON)
    loading.cancel()
    gate.opened.set()
    repository.load("slow").result(SOON)
    assert ask(repository, "slow") == 8


def test_versions_and_models_are_loaded_side_by_side(explicit, tmp_path, gate):
    """Four that wait for each other."""
    code = "import yais_test_gate\nyais_test_gate.barrier.wait(20)\n" + HANGS
    gate.barrier = threading.Barrier(4)
    gate.opened.set()
    for name in ("a", "b"):
        for version in ("1", "2"):
            config = PYTHON.format("version_policy { all {} }")
            write(tmp_path, name, code.encode(), config, version=version, filename="model.py")
    repository = explicit(tmp_path, load=("*",))
    assert states(repository) == {name: [("1", READY), ("2", READY)] for name in ("a", "b")}


def test_closed_while_it_loads(make_repository, tmp_path, gate):
    write(tmp_path, "slow", HANGS.encode(), PYTHON.format(""), filename="model.py")
    repository = make_repository(tmp_path, control=ControlMode.EXPLICIT)
    repository.load_all()
    repository.load("slow")
    assert gate.began.wait(SOON)
    assert not repository.close(0.01)
    gate.opened.set()
    assert repository.close(SOON)
    with pytest.raises(Unavailable, match="stopped"):
        repository.load("slow")


def test_requests_in_flight_end_on_what_they_began_with(explicit, tmp_path, gate):
    """And the index says meanwhile that it is being unloaded."""
    code = HANGS.replace("def initialize(self, config)", "def wait(self)").replace(
        'return {"Y"', 'self.wait(); return {"Y"'
    )
    write(tmp_path, "slow", code.encode(), PYTHON.format(""), filename="model.py")
    repository = explicit(tmp_path, load=("slow",))
    answers = []
    asking = threading.Thread(target=lambda: answers.append(ask(repository, "slow")))
    asking.start()
    assert gate.began.wait(SOON)
    repository.unload("slow").result(SOON)
    assert entry_of(repository, "slow").state is ModelState.UNLOADING
    assert repository.ready
    with pytest.raises(NotFound):
        repository.find("slow")
    gate.opened.set()
    asking.join(SOON)
    assert answers == [8]
    eventually(lambda: entry_of(repository, "slow").state is UNAVAILABLE)


def test_what_ends_late_is_not_noted_of_what_came_after_it(explicit, tmp_path, gate):
    code = HANGS.replace("def initialize(self, config)", "def wait(self)").replace(
        'return {"Y"', 'self.wait(); return {"Y"'
    )
    write(tmp_path, "slow", code.encode(), PYTHON.format(""), filename="model.py")
    repository = explicit(tmp_path, load=("slow",))
    asking = threading.Thread(target=ask, args=(repository, "slow"))
    asking.start()
    assert gate.began.wait(SOON)
    repository.unload("slow").result(SOON)
    repository.load("slow").result(SOON)
    gate.opened.set()
    asking.join(SOON)
    eventually(lambda: not repository._retirement._threads)
    assert entry_of(repository, "slow").state is READY
    assert ask(repository, "slow") == 8


def test_what_is_unloaded_is_freed(explicit, tmp_path):
    write_adder(tmp_path, "a", 1)
    repository = explicit(tmp_path, load=("a",))
    ask(repository, "a")
    loaded = repository.find("a")
    freed = weakref.ref(loaded.model)
    del loaded
    gc.collect()
    gc.disable()
    try:
        repository.unload("a").result(SOON)
        eventually(lambda: freed() is None)
    finally:
        gc.enable()


def test_labels_and_links(explicit, tmp_path):
    """A directory may be a link, and a version, too."""
    write_adder(tmp_path / "store", "a", 1)
    root = tmp_path / "models"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "store" / "a")
    repository = explicit(root, load=("linked",))
    assert ask(repository, "linked") == 1
    write_adder(tmp_path / "store", "a", 2)
    repository.load("linked").result(SOON)
    assert ask(repository, "linked") == 2


def test_text_of_a_repository(explicit, tmp_path):
    write(tmp_path, "a", identity("FP32"))
    repository = explicit(Path(tmp_path))
    assert repr(repository) == "<ModelRepository: 0 of 0 models ready>"
    repository.load("a").result(SOON)
    assert repr(repository) == "<ModelRepository: 1 of 1 models ready>"
