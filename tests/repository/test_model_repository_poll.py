"""Models that follow their directories."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_models import identity, write
from repositories import READY, SOON, UNAVAILABLE, adder, ask, entry_of, states, write_adder
from serving_models import eventually

from yais.errors import NotFound, Unavailable
from yais.repository.directory import find_models
from yais.repository.poller import Poller
from yais.repository.repository import ControlMode
from yais.repository.roots import Roots
from yais.repository.snapshot import changes, snapshot

SNAPSHOTS = st.dictionaries(
    st.sampled_from("abcd"),
    st.frozensets(st.tuples(st.sampled_from(["x", "y"]), st.integers(0, 1), st.integers(0, 1)), max_size=2),
)


@given(SNAPSHOTS, SNAPSHOTS)
def test_what_changes_between_two_snapshots(tried, found):
    change = changes(tried, found)
    assert not change.load & change.unload
    for name in tried.keys() | found.keys():
        assert (name in change.unload) is (name not in found)
        if name in found:
            assert (name in change.load) is (name not in tried or tried[name] != found[name])
    done = {name: state for name, state in tried.items() if name not in change.unload}
    done |= {name: found[name] for name in change.load}
    assert done == found
    again = changes(done, found)
    assert not again.load
    assert not again.unload


def test_snapshots(tmp_path):
    directory = write(tmp_path, "a", b"one", "name: 'a'")
    first = snapshot([directory])
    assert {os.path.relpath(path, directory) for path, *_ in first} == {"1", "1/model.onnx", "config.pbtxt"}
    assert snapshot([directory]) == first
    (directory / ".hidden").write_text("x")
    (directory / "1" / "__pycache__").mkdir()
    assert snapshot([directory]) == first
    path = directory / "1" / "model.onnx"
    path.write_bytes(b"three")
    second = snapshot([directory])
    assert second != first
    os.utime(path, ns=(5, 5))
    third = snapshot([directory])
    assert third != second
    (directory / "2").mkdir()
    assert snapshot([directory]) != third
    assert snapshot([tmp_path / "nowhere"]) == frozenset()


def test_links_in_circles(tmp_path):
    """Every directory is looked at once, by however many ways it can be reached."""
    for name in "abcdefgh":
        (tmp_path / name).mkdir()
    for name in "abcdefgh":
        for other in "abcdefgh":
            (tmp_path / name / other).symlink_to(tmp_path / other)
    first = snapshot([tmp_path / "a"])
    assert len(first) == 64
    assert snapshot([tmp_path / "a"]) == first
    (tmp_path / "h" / "new").write_text("x")
    assert snapshot([tmp_path / "a"]) != first


def test_a_file_with_the_size_and_the_time_of_the_one_before(tmp_path):
    """As copying with times leaves it, in the place or beside it."""
    path = write(tmp_path, "a", b"one") / "1" / "model.onnx"
    seen = [snapshot([tmp_path / "a"])]
    status = path.stat()

    def changed():
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        seen.append(snapshot([tmp_path / "a"]))
        return seen[-1] not in seen[:-1]

    def rewrite():
        path.write_bytes(b"two")
        return changed()

    def replace():
        (tmp_path / "new").write_bytes(b"six")
        (tmp_path / "new").replace(path)
        return changed()

    eventually(rewrite)  # the clock of a file system ticks every few milliseconds
    eventually(replace)


def test_roots_that_are_not_mounted(tmp_path):
    """A root that is empty all at once, and on another file system, is not believed."""
    roots = [tmp_path / "first", tmp_path / "second"]
    for root in roots:
        write(root, root.name, b"one")
    found = Roots(roots)
    assert set(found.look()) == {"first", "second"}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        if os.stat(elsewhere).st_dev == os.stat(tmp_path).st_dev:
            pytest.skip("there is one file system only")
        roots[1].rename(tmp_path / "aside")
        roots[1].symlink_to(elsewhere)
        with pytest.raises(Unavailable, match="second is empty and on another file system than before"):
            found.look()
        write(Path(elsewhere), "other", b"one")
        assert set(found.look()) == {"first", "other"}  # it has moved
        shutil.rmtree(Path(elsewhere) / "other")
        assert set(found.look()) == {"first"}  # on purpose
    roots[1].unlink()
    with pytest.raises(NotFound):
        found.look()


def test_what_was_asked_for_and_never_came_is_forgotten(make_repository, tmp_path):
    """A directory may go between being found and being read."""
    write_adder(tmp_path, "a", 1)
    repository = make_repository(tmp_path, control=ControlMode.POLL, poll_seconds=0.02)
    repository._polled.look = lambda: find_models([tmp_path]) | {"gone": (tmp_path / "gone",)}
    repository.load_all()
    assert not repository.ready
    del repository._polled.look
    eventually(lambda: repository.ready)
    assert states(repository) == {"a": [("1", READY)]}


@pytest.fixture
def polling(make_repository):
    """Return a function that makes repositories which look at their directories all the time."""

    def make(*roots):
        repository = make_repository(*roots, control=ControlMode.POLL, poll_seconds=0.02)
        repository.load_all()
        return repository

    return make


def test_new_changed_and_gone(polling, tmp_path):
    write_adder(tmp_path, "a", 1)
    repository = polling(tmp_path)
    assert ask(repository, "a") == 1
    write_adder(tmp_path, "b", 2)
    eventually(lambda: states(repository).get("b") == [("1", READY)])
    assert ask(repository, "b") == 2
    write_adder(tmp_path, "a", 3, version="2")
    eventually(lambda: ask(repository, "a") == 3)
    shutil.rmtree(tmp_path / "a")
    eventually(lambda: states(repository)["a"] == [("1", UNAVAILABLE), ("2", UNAVAILABLE)])
    assert {entry_of(repository, "a", version).reason for version in "12"} == {"unloaded"}
    assert repository.ready
    assert ask(repository, "b") == 2
    write_adder(tmp_path, "a", 4)
    eventually(lambda: ("1", READY) in states(repository)["a"])
    assert ask(repository, "a") == 4


def test_half_written_files_leave_what_serves(polling, tmp_path):
    write_adder(tmp_path, "a", 1)
    repository = polling(tmp_path)
    content = adder(2).SerializeToString()
    write(tmp_path, "a", content[: len(content) // 2], version="2")
    eventually(lambda: states(repository)["a"] == [("1", READY), ("2", UNAVAILABLE)])
    assert ask(repository, "a") == 1
    write(tmp_path, "a", content, version="2")
    eventually(lambda: ("2", READY) in states(repository)["a"])
    assert ask(repository, "a") == 2


def test_what_is_broken_is_tried_again_only_when_it_changes(make_repository, tmp_path, caplog):
    write(tmp_path, "a", b"broken")
    repository = make_repository(tmp_path, control=ControlMode.POLL, poll_seconds=0.005)
    looked = threading.Semaphore(0)
    look = repository._poller._look
    repository._poller._look = lambda: (look(), looked.release())
    repository.load_all()
    for _ in range(5):
        assert looked.acquire(timeout=SOON)
    assert caplog.text.count("failed to load 'a' version 1") == 1
    write_adder(tmp_path, "a", 1)
    eventually(lambda: states(repository)["a"] == [("1", READY)])


def test_a_name_in_two_roots_until_it_is_in_one(polling, tmp_path):
    for root, number in (("first", 1), ("second", 2)):
        write_adder(tmp_path / root, "a", number)
    repository = polling(tmp_path / "first", tmp_path / "second")
    assert " and in " in entry_of(repository, "a", "").reason
    shutil.rmtree(tmp_path / "first" / "a")
    eventually(lambda: states(repository)["a"] == [("1", READY)])
    assert ask(repository, "a") == 2


def test_a_root_that_is_gone_for_a_moment_unloads_nothing(polling, tmp_path, caplog):
    root = tmp_path / "models"
    write_adder(root, "a", 1)
    repository = polling(root)
    root.rename(tmp_path / "elsewhere")
    eventually(lambda: "could not be polled" in caplog.text)
    assert ask(repository, "a") == 1
    assert [entry.name for entry in repository.index().result(SOON)] == ["a"]
    (tmp_path / "elsewhere").rename(root)
    write(root, "b", identity("FP32"))
    eventually(lambda: "b" in states(repository))
    assert ask(repository, "a") == 1


def test_poller():
    looked = threading.Semaphore(0)

    def look():
        looked.release()
        raise ValueError("not now")

    poller = Poller(0.001, look)
    poller.start()
    for _ in range(3):
        assert looked.acquire(timeout=SOON)
    assert poller.close(SOON)
    assert poller.close(SOON)
    while looked.acquire(blocking=False):
        pass
    assert not looked.acquire(timeout=0.02)
    for seconds in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"got poll_seconds={seconds}, expected more than 0"):
            Poller(seconds, look)
