"""The repository: what cannot be loaded is told why, and keeps nothing else from being served."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from onnx_models import identity, table, write
from serving_models import eventually

from yais.core.tensor import DataType, TensorSpec
from yais.core.timer import Timer
from yais.errors import InvalidArgument, NotFound, Unavailable
from yais.inference.request import InferRequest
from yais.inference.tokens import Tokens
from yais.lane import Lanes
from yais.repository.repository import ControlMode, ModelRepository, ModelState

SOON = 20.0

TENSORS = (
    "input { name: 'X' data_type: TYPE_FP32 dims: -1 } output { name: 'Y' data_type: TYPE_FP32 dims: -1 %s }"
)


@pytest.fixture(scope="module")
def lanes():
    made = Lanes("test", threads={"execute": 1})
    yield made
    assert made.close()


@pytest.fixture(scope="module")
def timer():
    made = Timer("test-timer")
    yield made
    assert made.close(SOON)


@pytest.fixture
def load(lanes, timer):
    """Return a function that loads repositories."""
    loaded = []

    def from_roots(*roots, progress=None):
        repository = ModelRepository(roots, lanes=lanes, tokens=Tokens(2), timer=timer)
        loaded.append(repository)
        repository.load_all(progress)
        return repository

    yield from_roots
    assert all(repository.close(SOON) for repository in loaded)


def infer(repository, name, version=""):
    array = np.arange(4, dtype=np.float32)[None]
    request = InferRequest([TensorSpec("X", DataType.FP32, array.shape)], [array.tobytes()])
    response = repository.find(name, version).model.submit(request).result(SOON)
    assert bytes(response.data[0]) == array.tobytes()
    return response.form.model_version


def entries(repository):
    return {entry.name: entry for entry in repository.entries}


BROKEN = {
    "corrupt": "ONNX Runtime cannot load the model: ",
    "nothing": "ONNX Runtime cannot load the model: ",
    "no_version": "at least one version must be available under the version policy of model 'no_version': ",
    "no_file": "failed to load model 'no_file': ",
    "other_file": "failed to load model 'other_file': ",
    "no_config": "failed to read text proto from ",
    "contradiction": "model 'contradiction', tensor 'X': the model expects FP32[-1,-1], ",
    "no_labels": "cannot read label file 'labels.txt' of 'no_labels': ",
    "far_labels": "label file '../labels.txt' of model 'far_labels' lies outside its directory",
    "unsupported": "model 'unsupported' is configured with 'model_operations', which yais does not support",
    "bad_option": "got parameter 'threads' for model 'bad_option', expected one of ",
    "far_file": "model file '../../good/1/model.onnx' of model 'far_file' lies outside its directory",
}


@pytest.fixture
def broken(tmp_path):
    """A repository of good models and of everything that can be wrong with one."""
    good = identity("FP32")
    write(tmp_path, "good", good)
    write(tmp_path, "corrupt", b"no protobuf at all")
    write(tmp_path, "nothing", b"")
    write(tmp_path, "no_version", None, "max_batch_size: 8")
    write(tmp_path, "no_file", None)
    (tmp_path / "no_file" / "1").mkdir()
    write(tmp_path, "other_file", good, "default_model_filename: 'weights.onnx'")
    write(tmp_path, "no_config", good, "max_batch_size: [[")
    write(tmp_path, "contradiction", good, "input { name: 'X' data_type: TYPE_INT8 dims: [ -1, -1 ] }")
    write(tmp_path, "no_labels", good, "max_batch_size: 4 " + TENSORS % "label_filename: 'labels.txt'")
    write(tmp_path, "far_labels", good, "max_batch_size: 4 " + TENSORS % "label_filename: '../labels.txt'")
    (tmp_path / "labels.txt").write_text("zero\n")
    write(tmp_path, "unsupported", good, "model_operations {}")
    write(tmp_path, "bad_option", good, "parameters { key: 'threads' value { string_value: '1' } }")
    write(tmp_path, "far_file", good, "default_model_filename: '../../good/1/model.onnx'")
    write(tmp_path, "with_file", good, "default_model_filename: 'weights.onnx'", filename="weights.onnx")
    (tmp_path / "README.md").write_text("not a model")
    return tmp_path


def test_good_models_are_served_beside_broken_ones(load, broken, caplog):
    repository = load(broken)
    for name in ("good", "with_file"):
        assert infer(repository, name) == "1"
    assert not repository.ready
    assert repr(repository) == "<ModelRepository: 2 of 14 models ready>"
    found = entries(repository)
    assert set(found) == {*BROKEN, "good", "with_file"}
    for name, reason in BROKEN.items():
        entry = found[name]
        assert (entry.state, entry.loaded) == (ModelState.UNAVAILABLE, None)
        assert entry.reason.startswith(reason), entry.reason
        assert f"failed to load '{name}' version {entry.version or '?'}: {entry.reason}" in caplog.text
    assert found["good"].state is ModelState.READY
    assert found["good"].reason == ""


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_model_is_not_there(load, broken, name):
    repository = load(broken)
    version = entries(repository)[name].version
    with pytest.raises(NotFound, match=rf"^Request for unknown model: '{name}' has no available versions$"):
        repository.find(name)
    if version:
        assert name != "no_version"
        text = rf"^Request for unknown model: '{name}' version 1 is not at ready state$"
        with pytest.raises(Unavailable, match=text):
            repository.find(name, "1")
    with pytest.raises(NotFound, match=rf"^Request for unknown model: '{name}' version 2 is not found$"):
        repository.find(name, "2")


def test_the_latest_version_is_served_and_no_other(load, tmp_path):
    for version in ("1", "2", "10"):
        write(tmp_path, "model", identity("FP32"), version=version)
    write(tmp_path, "model", b"broken", version="011")  # no version: a leading zero
    repository = load(tmp_path)
    assert infer(repository, "model") == infer(repository, "model", "10") == "10"
    for version in ("1", "2", "11"):
        text = rf"^Request for unknown model: 'model' version {version} is not found$"
        with pytest.raises(NotFound, match=text):
            repository.find("model", version)


def test_a_broken_latest_version_is_not_replaced_by_an_older_one(load, tmp_path):
    """Serving old answers in silence would be worse than none."""
    write(tmp_path, "model", identity("FP32"), version="1")
    write(tmp_path, "model", b"broken", version="2")
    repository = load(tmp_path)
    assert [(entry.version, entry.state) for entry in repository.entries] == [("2", ModelState.UNAVAILABLE)]


@pytest.mark.parametrize("version", ["1", "01", "+1", " 1 ", "0000000000000000000001"])
def test_ways_to_write_a_version(load, tmp_path, version):
    write(tmp_path, "model", identity("FP32"))
    assert infer(load(tmp_path), "model", version) == "1"


@pytest.mark.parametrize("version", ["x", "1.0", "1x", "0x1", "1_0", "--1", "1 2", "\0", "1" * 5000])
def test_versions_that_are_no_numbers(load, tmp_path, version):
    write(tmp_path, "model", identity("FP32"))
    repository = load(tmp_path)
    for name in ("model", "other"):
        with pytest.raises(InvalidArgument) as caught:
            repository.find(name, version)
        assert str(caught.value) == (
            f"failed to get model version from specified version string '{version}' (details: stol), "
            "version should be an integral value > 0"
        )


@pytest.mark.parametrize("version", ["0", "-1", "-99999999999999999999"])
def test_versions_that_are_not_positive(load, tmp_path, version):
    with pytest.raises(InvalidArgument) as caught:
        load(tmp_path).find("model", version)
    expected = f"invalid model version specified '{version}' , version should be an integral value > 0"
    assert str(caught.value) == expected


def test_unknown_models(load, tmp_path):
    for version in ("", "1"):
        with pytest.raises(NotFound, match=r"^Request for unknown model: 'model' is not found$"):
            load(tmp_path).find("model", version)


def test_progress(load, tmp_path):
    write(tmp_path, "b", identity("FP32"), version="3")
    write(tmp_path, "a", b"")
    write(tmp_path, "c", None)
    told = {}
    load(
        tmp_path, progress=lambda entry: told.setdefault(entry.name, []).append((entry.version, entry.state))
    )
    assert told == {
        "a": [("1", ModelState.LOADING), ("1", ModelState.UNAVAILABLE)],
        "b": [("3", ModelState.LOADING), ("3", ModelState.READY)],
        "c": [("", ModelState.UNAVAILABLE)],
    }


def test_progress_that_fails_is_nothing_to_the_models(load, tmp_path, caplog):
    write(tmp_path, "a", identity("FP32"))
    assert infer(load(tmp_path, progress=lambda entry: 1 // 0), "a") == "1"
    assert "ZeroDivisionError" in caplog.text


def test_labels_belong_to_their_outputs(load, tmp_path):
    config = "max_batch_size: 4 " + TENSORS % "label_filename: 'names'"
    write(tmp_path, "labelled", identity("FP32"), config, files={"names": "zero\none\n"})
    write(tmp_path, "plain", identity("FP32"))
    repository = load(tmp_path)
    assert repository.find("labelled").labels == {"Y": ["zero", "one"]}
    assert repository.find("plain").labels == {}


def test_a_model_that_takes_no_zeros_is_served(load, tmp_path):
    """It is only warmed up with them. Here zero is no index, as nothing is in the table."""
    write(tmp_path, "empty", table([]))
    repository = load(tmp_path)
    assert repository.ready
    assert repository.find("empty").model.name == "empty"


def test_two_roots(load, tmp_path):
    write(tmp_path / "first", "a", identity("FP32"))
    write(tmp_path / "second", "b", identity("FP32"))
    repository = load(tmp_path / "first", tmp_path / "second")
    assert repository.ready
    assert [entry.name for entry in repository.entries] == ["a", "b"]


def test_a_name_that_is_there_twice_is_neither(load, tmp_path):
    for root in ("first", "second"):
        write(tmp_path / root, "a", identity("FP32"))
    write(tmp_path / "first", "b", identity("FP32"))
    repository = load(tmp_path / "first", tmp_path / "second")
    assert infer(repository, "b") == "1"
    entry = entries(repository)["a"]
    assert (entry.version, entry.state) == ("", ModelState.UNAVAILABLE)
    assert entry.reason == f"model 'a' is in {tmp_path / 'first'} and in {tmp_path / 'second'}"


def test_a_root_that_is_not_there(load, tmp_path):
    with pytest.raises(NotFound, match=r"^model repository .*nowhere is not a directory$"):
        load(tmp_path / "nowhere")


def versions(repository, name):
    return [(entry.version, entry.state) for entry in repository.entries if entry.name == name]


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ("latest { num_versions: 2 }", ["2", "10"]),
        ("latest { num_versions: 9 }", ["1", "2", "10"]),
        ("all {}", ["1", "2", "10"]),
        ("specific { versions: [ 2, 1, 7 ] }", ["1", "2"]),
    ],
)
def test_version_policies(load, tmp_path, policy, wanted):
    for version in ("1", "2", "10"):
        write(tmp_path, "model", identity("FP32"), version=version)
    write(tmp_path, "model", None, f"version_policy {{ {policy} }}")
    repository = load(tmp_path)
    assert versions(repository, "model") == [(version, ModelState.READY) for version in wanted]
    assert infer(repository, "model") == wanted[-1]
    for version in wanted:
        assert infer(repository, "model", version) == version


def test_no_version_of_a_policy(load, tmp_path):
    write(tmp_path, "model", identity("FP32"), "version_policy { specific { versions: 7 } }")
    (entry,) = load(tmp_path).entries
    assert (entry.version, entry.state) == ("", ModelState.UNAVAILABLE)
    assert entry.reason.startswith("at least one version must be available under the version policy of model")


def test_a_broken_version_keeps_the_others_from_being_served(load, tmp_path):
    """As in Triton: what the policy asks for is there, or nothing."""
    write(tmp_path, "model", identity("FP32"), "version_policy { all {} }")
    write(tmp_path, "model", b"broken", version="2")
    repository = load(tmp_path)
    first, second = repository.entries
    assert (first.state, second.state) == (ModelState.UNAVAILABLE, ModelState.UNAVAILABLE)
    assert first.reason == "it is not loaded without version 2"
    assert second.reason.startswith("ONNX Runtime cannot load the model: ")
    with pytest.raises(Unavailable):
        repository.find("model", "1")


def test_after_close_there_are_no_models(lanes, timer, tmp_path):
    write(tmp_path, "model", identity("FP32"))
    repository = ModelRepository([tmp_path], lanes=lanes, tokens=Tokens(2), timer=timer)
    repository.load_all()
    model = repository.find("model").model
    assert repository.close(SOON)
    with pytest.raises(NotFound):
        repository.find("model")
    array = np.zeros((1, 1), np.float32)
    request = InferRequest([TensorSpec("X", DataType.FP32, array.shape)], [array.tobytes()])
    with pytest.raises(Unavailable, match="model 'model' version 1 is being unloaded"):
        model.submit(request).result(SOON)


def test_what_has_no_effect_is_said(make_repository, tmp_path, caplog):
    write(tmp_path, "kept", identity("FP32"), "response_cache { enable: true }")
    limited = "instance_group { rate_limiter { resources { name: 'R' count: 1 } } }"
    write(tmp_path, "limited", identity("FP32"), limited)
    write(tmp_path, "some", identity("FP32"), "version_policy { specific { versions: [ 1, 3 ] } }")
    repository = make_repository(tmp_path)
    repository.load_all()
    assert repository.ready
    warnings = sorted(record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert warnings == [
        "model 'kept' asks for the response cache, and the server has none",
        "model 'limited' names resources, and the server has no rate limiter",
        "model 'some' has no version [3], which its version_policy names",
    ]


def test_loading_and_unloading_are_in_the_log(make_repository, tmp_path, caplog):
    caplog.set_level(logging.INFO, "yais.repository")
    write(tmp_path, "one", identity("FP32"))
    repository = make_repository(tmp_path, control=ControlMode.EXPLICIT)
    repository.load("one").result(SOON)
    repository.unload("one").result(SOON)
    lines = [record.getMessage() for record in caplog.records]
    eventually(lambda: caplog.records[-1].getMessage() == "unloaded 'one' version 1")
    assert lines[0] == "loading 'one' version 1" and lines[1].startswith("loaded 'one' version 1 in ")


def test_a_model_without_a_directory_for_its_version(make_repository, tmp_path):
    (tmp_path / "m" / "v1").mkdir(parents=True)
    repository = make_repository(tmp_path)
    repository.load_all()
    (entry,) = repository.entries
    assert entry.reason.endswith(
        "no directory named by a positive number, expected the model's file in one such as '1'"
    )
