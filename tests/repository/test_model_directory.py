"""Where a repository keeps what."""

from __future__ import annotations

import os

import pytest

from yais.errors import InvalidArgument, NotFound
from yais.repository.directory import ModelDirectory, check_name, find_model, find_models


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    return ModelDirectory(path)


def test_names(directory):
    assert directory.name == "model"
    assert directory.config == directory.path / "config.pbtxt"


def test_versions_are_directories_named_by_positive_numbers(directory):
    for name in ("10", "9", "2", "0", "01", "-1", "1.0", "v3", "latest", "1a", " 4", "²", "٣"):
        (directory.path / name).mkdir()
    (directory.path / "7").write_text("a file")
    assert directory.versions() == [2, 9, 10]
    assert directory.latest_version() == 10  # by number, not by text


def test_a_link_to_a_version_is_one(directory, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (directory.path / "3").symlink_to(tmp_path / "elsewhere")
    (directory.path / "4").symlink_to(tmp_path / "nowhere")
    assert directory.versions() == [3]


def test_no_version_at_all(directory):
    with pytest.raises(NotFound) as caught:
        directory.latest_version()
    assert str(caught.value) == (
        "at least one version must be available under the version policy of model 'model': "
        f"{directory.path} has no directory named by a positive number"
    )


def test_files_of_a_version(directory):
    path = directory.path / "1" / "parts" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert directory.file(1, "parts/model.onnx") == path
    assert directory.file(1, "parts") == path.parent  # models of some backends are directories
    os.mkfifo(path.parent / "pipe")  # reading it would not end
    for missing in ("model.onnx", "parts/pipe"):
        with pytest.raises(NotFound) as caught:
            directory.file(1, missing)
        expected = f"failed to load model 'model': {directory.path / '1' / missing} does not exist"
        assert str(caught.value) == expected


@pytest.mark.parametrize("name", ["../../secret", "../1/../../secret", "/etc/hostname", "a/../../.."])
def test_files_outside_are_none_of_its(directory, name):
    (directory.path / "1").mkdir()
    (directory.path.parent / "secret").write_text("x")
    with pytest.raises(InvalidArgument) as caught:
        directory.file(1, name)
    assert str(caught.value) == f"model file '{name}' of model 'model' lies outside its directory"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("one", ["one"]),
        ("one\ntwo\n", ["one", "two"]),
        ("one\r\ntwo\r\n", ["one", "two"]),
        ("one\n\nthree\n", ["one", "", "three"]),
        ("ä:1\n b \n", ["ä:1", " b "]),
        ("new\u2028line\nform\x0cfeed\n", ["new\u2028line", "form\x0cfeed"]),
    ],
)
def test_labels_are_lines(directory, text, lines):
    (directory.path / "labels.txt").write_bytes(text.encode())
    assert directory.labels("labels.txt") == lines


def test_labels_may_lie_deeper(directory):
    (directory.path / "1").mkdir()
    (directory.path / "1" / "labels.txt").write_text("one\n")
    assert directory.labels("1/labels.txt") == ["one"]


@pytest.mark.parametrize("name", ["../secret", "1/../../secret", "/etc/hostname"])
def test_labels_outside_are_none_of_its(directory, name):
    (directory.path / "1").mkdir()
    (directory.path.parent / "secret").write_text("x")
    with pytest.raises(InvalidArgument) as caught:
        directory.labels(name)
    assert str(caught.value) == f"label file '{name}' of model 'model' lies outside its directory"


def test_labels_that_cannot_be_read(directory):
    with pytest.raises(InvalidArgument, match=r"cannot read label file 'none' of 'model': .*No such file"):
        directory.labels("none")
    (directory.path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgument, match=r"cannot read label file 'binary' of 'model': .*utf-8"):
        directory.labels("binary")


def test_every_directory_is_a_model_unless_hidden(tmp_path):
    for name in ("b", "a", ".git", "__pycache__", "with space", "1"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.md").write_text("a file")
    assert list(find_models([tmp_path])) == ["1", "a", "b", "with space"]


def test_several_repositories(tmp_path):
    for path in ("first/a", "second/b"):
        (tmp_path / path).mkdir(parents=True)
    roots = [tmp_path / "first", tmp_path / "second"]
    assert find_models(roots) == {"a": (tmp_path / "first" / "a",), "b": (tmp_path / "second" / "b",)}
    assert find_model(roots, "b") == (tmp_path / "second" / "b",)
    assert find_models([]) == {}


def test_one_name_in_two_repositories(tmp_path):
    for path in ("first/a", "second/a", "second/b"):
        (tmp_path / path).mkdir(parents=True)
    roots = [tmp_path / "first", tmp_path / "second"]
    both = (tmp_path / "first" / "a", tmp_path / "second" / "a")
    assert find_models(roots) == {"a": both, "b": (tmp_path / "second" / "b",)}
    assert find_model(roots, "a") == both


def test_one_name_that_is_nowhere(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / ".hidden").mkdir()
    for name in ("file", "none", ".hidden"):
        with pytest.raises(NotFound, match=rf"^no repository has a directory '{name}'$"):
            find_model([tmp_path], name)


@pytest.mark.parametrize("name", ["", " ", "\t\n"])
def test_names_that_are_empty(name):
    with pytest.raises(InvalidArgument) as caught:
        check_name(name)
    assert str(caught.value) == "Model name cannot be empty. Please enter a valid name to deploy."


@pytest.mark.parametrize("name", [".", "..", "../a", "a/b", "/a", "a\\b", "a\0"])
def test_names_that_lead_elsewhere(name):
    with pytest.raises(InvalidArgument, match=r"^model name must not contain path traversal characters$"):
        check_name(name)


def test_other_names():
    for name in ("a", "a.b", "a..b", "with space", "ä"):
        check_name(name)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_a_repository_that_is_no_directory(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotFound) as caught:
        find_models([tmp_path / name])
    assert str(caught.value) == f"model repository {tmp_path / name} is not a directory"
