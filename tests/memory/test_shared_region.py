"""Shared regions, with other processes at the other end."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from yais.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
)
from yais.memory.shared_region import SharedRegion


def path_of(region: SharedRegion) -> Path:
    return Path("/dev/shm") / region.name.removeprefix("/")


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"import os, sys\nfrom yais.memory.shared_region import SharedRegion\n{code}"
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@pytest.fixture
def region() -> Iterator[SharedRegion]:
    with SharedRegion.create(100) as region:
        yield region


@pytest.fixture
def name() -> Iterator[str]:
    name = f"/yais-test-{secrets.token_hex(8)}"
    yield name
    Path("/dev/shm", name[1:]).unlink(missing_ok=True)


# --- Two processes ------------------------------------------------------------------------------------


def test_two_processes_share_bytes(region: SharedRegion) -> None:
    region.view()[:5] = b"hello"
    code = """
with SharedRegion.attach(sys.argv[1]) as region:
    assert region.size == 100, region
    print(bytes(region.view(0, 5)).decode())
    region.buffer(8, 8).array("i8")[0] = 42
"""
    done = run(code, region.name)
    assert (done.stdout, done.stderr, done.returncode) == ("hello\n", "", 0)
    assert region.buffer(8, 8).array(np.int64).tolist() == [42]
    assert path_of(region).exists()  # who attached takes nothing away


def test_a_region_goes_with_the_process_that_made_it(name: str) -> None:
    done = run("region = SharedRegion.create(10, name=sys.argv[1])\nSharedRegion.attach(sys.argv[1])", name)
    assert (done.stderr, done.returncode) == ("", 0)
    with pytest.raises(NotFound):
        SharedRegion.attach(name)


def test_a_killed_process_leaves_its_region(name: str) -> None:
    kill = "SharedRegion.create(10, name=sys.argv[1])"
    done = run(f"region = {kill}\nos.kill(os.getpid(), {int(signal.SIGKILL)})", name)
    assert done.returncode == -signal.SIGKILL
    with SharedRegion.attach(name) as region:
        assert region.size == 10


def test_a_forked_child_takes_nothing_away() -> None:
    code = """
region = SharedRegion.create(10)
region.view()[0] = 1
child = os.fork()
if not child:
    try:
        region.unlink()
    except Exception as error:
        assert type(error).__name__ == "PermissionDenied", error
    else:
        os._exit(1)
    region.view()[0] = 2
    region.close()
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
assert region.view()[0] == 2
SharedRegion.attach(region.name)
"""
    done = run(code)
    assert (done.stderr, done.returncode) == ("", 0)


# --- One process --------------------------------------------------------------------------------------


def test_a_region_is_private_zeroed_and_whole(region: SharedRegion) -> None:
    status = path_of(region).stat()
    assert stat.S_IMODE(status.st_mode) == 0o600 and status.st_size == 100
    assert status.st_blocks > 0  # set aside, not promised
    assert bytes(region.view()) == bytes(100)
    assert region.name.startswith("/yais-") and repr(region) == f"<SharedRegion {region.name}: 100 bytes>"


def test_a_region_is_private_whatever_the_umask(name: str) -> None:
    before = os.umask(0)
    try:
        with SharedRegion.create(1, name=name) as region:
            assert stat.S_IMODE(path_of(region).stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_name_is_taken_once(name: str) -> None:
    with SharedRegion.create(5, name=name.removeprefix("/")) as region:
        assert region.name == name
        with pytest.raises(AlreadyExists, match="File exists"):
            SharedRegion.create(5, name=name)
        assert path_of(region).exists()
    with pytest.raises(NotFound, match="No such file"):
        SharedRegion.attach(name)
    SharedRegion.create(6, name=name).close()


@pytest.mark.parametrize(
    ("offset", "size", "length"), [(0, None, 100), (0, 100, 100), (99, 1, 1), (100, None, 0), (100, 0, 0)]
)
def test_views_within(region: SharedRegion, offset: int, size: int | None, length: int) -> None:
    assert len(region.view(offset, size)) == region.buffer(offset, size).size == length


@pytest.mark.parametrize(
    ("offset", "size", "error", "message"),
    [
        (0, 101, OutOfRange, "1 bytes beyond the end"),
        (90, 15, OutOfRange, "5 bytes beyond the end"),
        (101, None, OutOfRange, "1 bytes beyond the end"),
        (101, 0, OutOfRange, "1 bytes beyond the end"),
        (-1, 1, InvalidArgument, "expected neither to be negative"),
        (0, -1, InvalidArgument, "expected neither to be negative"),
    ],
)
def test_views_beyond(
    region: SharedRegion, offset: int, size: int | None, error: type[Exception], message: str
) -> None:
    for take in (region.view, region.buffer):
        with pytest.raises(error, match=message):
            take(offset, size)


@pytest.mark.parametrize(
    "bad", ["", "/", "..", "/..", "/.", "a/b", "/../etc/passwd", "//a", "/a/", "a\0", "a" * 256]
)
def test_names_that_are_none(bad: str) -> None:
    with pytest.raises(InvalidArgument, match="got name="):
        SharedRegion.create(1, name=bad)
    with pytest.raises(InvalidArgument, match="got name="):
        SharedRegion.attach(bad)


@pytest.mark.parametrize("odd", ["ä", "a\n", "a b:c", "a" * 255])
def test_names_that_only_others_give(odd: str) -> None:
    with pytest.raises(InvalidArgument, match="got name="):
        SharedRegion.create(1, name=odd)
    odd = odd if len(odd) == 255 else f"{secrets.token_hex(8)}{odd}"
    path = Path("/dev/shm", odd)
    path.write_bytes(b"there")
    try:
        with SharedRegion.attach(f"/{odd}") as region:
            assert bytes(region.view()) == b"there"
    finally:
        path.unlink()


def test_a_name_that_is_too_long_in_bytes() -> None:
    with pytest.raises(InvalidArgument, match="File name too long"):
        SharedRegion.attach("ä" * 128)


def test_sizes_that_are_none(region: SharedRegion, name: str) -> None:
    for size in (0, -1):
        with pytest.raises(InvalidArgument, match=f"got size={size}, expected at least 1 byte"):
            SharedRegion.create(size, name=name)
    for size in (0, 101):
        with pytest.raises(InvalidArgument, match=f"got size={size} of .*, expected 1 to 100 bytes"):
            SharedRegion.attach(region.name, size=size)
    with SharedRegion.attach(region.name, size=10) as part:
        assert len(part.view()) == 10


def test_more_than_there_is(name: str) -> None:
    with pytest.raises(ResourceExhausted):
        SharedRegion.create(1 << 60, name=name)
    assert not Path("/dev/shm", name[1:]).exists()


def test_links_and_others_are_refused(tmp_path: Path, name: str) -> None:
    path = Path("/dev/shm", name[1:])
    target = tmp_path / "target"
    target.write_bytes(b"secret")
    path.symlink_to(target)
    with pytest.raises(PermissionDenied):
        SharedRegion.attach(name)
    with pytest.raises(AlreadyExists):
        SharedRegion.create(1, name=name)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PermissionDenied, match="expected a file of user"):
        SharedRegion.attach(name)
    path.unlink()
    path.mkdir()
    try:
        with pytest.raises(PermissionDenied):
            SharedRegion.attach(name)
    finally:
        path.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_refused(region: SharedRegion) -> None:
    os.chown(path_of(region), 12345, -1)
    with pytest.raises(PermissionDenied, match="of user 12345, expected a file of user 0"):
        SharedRegion.attach(region.name)


def test_a_region_that_is_not_private(region: SharedRegion) -> None:
    for mode in (0o640, 0o620, 0o604, 0o602, 0o601, 0o610):
        path_of(region).chmod(mode)
        SharedRegion.attach(region.name).close()
        with pytest.raises(PermissionDenied, match="expected nothing for group and others"):
            SharedRegion.attach(region.name, private=True)
    path_of(region).chmod(0o600)
    SharedRegion.attach(region.name, private=True).close()


def test_what_a_region_has_now(name: str) -> None:
    path = Path("/dev/shm", name[1:])
    with path.open("wb") as file:
        file.truncate(1 << 20)
    with SharedRegion.attach(name) as region:
        assert not path.stat().st_blocks
        region.view()[0] = 5
        region.reserve(0, 1 << 16)
        assert path.stat().st_blocks * 512 == 1 << 16 and region.view()[0] == 5
        with pytest.raises(ResourceExhausted):
            region.reserve(0, 1 << 60)
        os.truncate(path, 4096)
        assert region.file_size == 4096 and region.size == 1 << 20
    for what in (lambda: region.file_size, lambda: region.reserve(0, 1)):
        with pytest.raises(FailedPrecondition, match="expected it open"):
            what()


# --- The end ------------------------------------------------------------------------------------------


def test_views_stay_valid_after_close() -> None:
    region = SharedRegion.create(10)
    other = SharedRegion.attach(region.name)
    view, array = region.view(), region.buffer().array(np.uint8)
    region.close()
    region.close()
    view[0] = 7
    assert array[0] == other.view()[0] == 7
    assert repr(region) == f"<SharedRegion {region.name}: 10 bytes, closed>"
    with pytest.raises(FailedPrecondition, match="expected it open"):
        region.view()


def mapped(region: SharedRegion) -> bool:
    return region.name in Path("/proc/self/maps").read_text()


def test_the_mapping_goes_with_the_last_view() -> None:
    region = SharedRegion.create(10)
    array = region.buffer(2, 3).array(np.uint8)
    region.close()
    assert mapped(region)
    del array
    assert not mapped(region)


def test_the_name_may_go_before_the_region(region: SharedRegion) -> None:
    with SharedRegion.attach(region.name) as other:
        with pytest.raises(PermissionDenied, match="expected the one that created it"):
            other.unlink()
        region.unlink()
        region.unlink()
        region.view()[0] = 3
        assert other.view()[0] == 3 and not path_of(region).exists()


def test_a_namesake_is_left_alone(name: str) -> None:
    first = SharedRegion.create(1, name=name)
    path_of(first).unlink()
    with SharedRegion.create(1, name=name) as second:
        first.close()
        assert path_of(second).exists()


def test_a_forgotten_region_goes() -> None:
    region = SharedRegion.create(1)
    path = path_of(region)
    del region
    gc.collect()
    assert not path.exists()


def test_no_descriptor_is_left(region: SharedRegion) -> None:
    before = len(os.listdir("/proc/self/fd"))
    closed = SharedRegion.attach(region.name)
    assert len(os.listdir("/proc/self/fd")) > before
    closed.close()
    assert len(os.listdir("/proc/self/fd")) == before
    for attempt in (lambda: SharedRegion.attach(region.name, size=101), lambda: SharedRegion.create(1 << 60)):
        with pytest.raises((InvalidArgument, ResourceExhausted)):
            attempt()
    assert len(os.listdir("/proc/self/fd")) == before


# --- What killed processes leave ----------------------------------------------------------------------


def test_names_that_a_killed_process_has_left(name: str) -> None:
    code = """
region = SharedRegion.create(10, name=sys.argv[1])
region.view()[:2] = b"hi"
os.kill(os.getpid(), 9)
"""
    assert run(code, f"{name}-1").returncode == -signal.SIGKILL
    other = f"{name}2"
    folder = Path("/dev/shm", f"{name[1:]}-folder")
    folder.mkdir()
    try:
        with SharedRegion.create(10, name=other), SharedRegion.attach(f"{name}-1") as attached:
            assert SharedRegion.unlink_left(f"{name}-") == [f"{name}-1"]
            assert SharedRegion.unlink_left(f"{name}-") == []
            assert bytes(attached.view()[:2]) == b"hi"
            with pytest.raises(NotFound):
                SharedRegion.attach(f"{name}-1")
            SharedRegion.attach(other).close()
        assert folder.exists()
    finally:
        folder.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
def test_names_of_other_users_stay(name: str) -> None:
    path = Path("/dev/shm", name[1:])
    path.touch()
    os.chown(path, 12345, -1)
    assert SharedRegion.unlink_left(name) == [] and path.exists()


def test_prefixes_that_are_none() -> None:
    for prefix in "", "a/b", "..":
        with pytest.raises(InvalidArgument):
            SharedRegion.unlink_left(prefix)
