"""The regions of clients, without a server."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_files import shared_file

from yais.errors import (
    AlreadyExists,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unimplemented,
    YaisError,
)
from yais.serving.cuda_shared_memory import CudaRegion, CudaSharedMemory
from yais.serving.shared_memory import Region, SystemSharedMemory

DISABLED = "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable."


@pytest.fixture
def memory() -> SystemSharedMemory:
    return SystemSharedMemory(allowed=True)


def refusal(call: Callable[[], object]) -> tuple[type[YaisError], str]:
    with pytest.raises(YaisError) as caught:
        call()
    return type(caught.value), str(caught.value)


def mapped(path: Path) -> int:
    return Path("/proc/self/maps").read_text().count(str(path))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- Registration -------------------------------------------------------------------------------------


def test_what_is_written_is_in_the_clients_file(memory):
    with shared_file(10_000) as path:
        memory.register(Region("mine", f"/{path.name}", 4097, 5000))  # on no page
        view = memory.find("mine").view(3, 5)
        view[:] = b"hello"
        assert path.read_bytes()[4100:4105] == b"hello"
        assert memory.status("mine") == memory.status("") == [Region("mine", f"/{path.name}", 4097, 5000)]
        assert repr(memory.find("mine")) == f"<MappedRegion mine: 5000 bytes of /{path.name} from 4097 on>"


@pytest.mark.parametrize("slashes", ["", "/", "//"])
def test_a_key_has_a_slash_or_none(memory, slashes):
    with shared_file(8) as path:
        memory.register(Region("mine", slashes + path.name, 0, 8))
        assert memory.status("")[0].key == slashes + path.name


@pytest.mark.parametrize("odd", ["with space", "ümläut:é", "new\nline", "%2e'\"", "-", "..."])
def test_names_and_keys_of_any_characters(memory, odd):
    with shared_file(8, name=f"yais-test{os.getpid()}{odd}") as path:
        memory.register(Region(odd, path.name, 0, 8))
        memory.find(odd).view(0, 1)[0] = 7
        assert path.read_bytes()[0] == 7


def test_one_file_under_several_names(memory):
    with shared_file(100) as path:
        memory.register(Region("a", path.name, 0, 100))
        memory.register(Region("b", path.name, 50, 50))
        memory.find("b").view(0, 1)[0] = 9
        memory.unregister("b")
        assert memory.find("a").view(50, 1)[0] == 9


def test_a_name_is_taken_once(memory):
    with shared_file(100) as path:
        memory.register(Region("a", path.name, 0, 100))
        text = "shared memory region 'a' already in manager"
        assert refusal(lambda: memory.register(Region("a", "other", -1, 0))) == (AlreadyExists, text)
        memory.unregister("a")
        memory.register(Region("a", path.name, 1, 99))


@pytest.mark.parametrize("key", ["nothing-there", "/nothing-there"])
def test_there_is_no_such_file(memory, key):
    text = f"Unable to open shared memory region: '{key}'"
    assert refusal(lambda: memory.register(Region("a", key, 0, 8))) == (Internal, text)


@pytest.mark.parametrize("key", ["", "/", ".", "..", "../etc/passwd", "/a/b", "a\0", "x" * 300, "ä" * 200])
def test_a_key_that_is_no_name(memory, key):
    kind, text = refusal(lambda: memory.register(Region("a", key, 0, 8)))
    assert kind is Internal and text.startswith(f"Unable to open shared memory region: '{key}'")


@pytest.mark.parametrize("key", ["triton_python_backend_shm_region_1", "/triton_python_backend_shm_region_"])
def test_a_key_that_is_reserved(memory, key):
    assert refusal(lambda: memory.register(Region("a", key, 0, 8))) == (
        InvalidArgument,
        (
            f"cannot register shared memory region 'a' with key '{key}' as the key contains the "
            "reserved prefix 'triton_python_backend_shm_region_'"
        ),
    )


@pytest.mark.parametrize("mode", [0o660, 0o620, 0o604, 0o602, 0o666, 0o610])
def test_a_file_that_others_may_touch(memory, mode, caplog):
    with shared_file(8, mode) as path, caplog.at_level(logging.WARNING, "yais.serving"):
        kind, text = refusal(lambda: memory.register(Region("a", path.name, 0, 8)))
        assert kind is Internal and text.startswith(f"Unable to open shared memory region: '{path.name}': ")
        assert "expected nothing for group and others" in text
        assert caplog.records[0].getMessage().startswith("shared memory region 'a' is refused: ")
    assert not memory.status("")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user(memory):
    with shared_file(8) as path:
        os.chown(path, 12345, -1)
        kind, text = refusal(lambda: memory.register(Region("a", path.name, 0, 8)))
    assert kind is Internal and "of user 12345" in text


def test_a_link_is_not_followed(memory, tmp_path):
    target = tmp_path / "secret"
    target.write_bytes(bytes(100))
    target.chmod(0o600)
    with shared_file(1) as path:
        path.unlink()
        path.symlink_to(target)
        kind, _ = refusal(lambda: memory.register(Region("a", path.name, 0, 8)))
    assert kind is Internal


BEYOND = [(0, 101), (1, 100), (100, 1), (0, 0), (50, 0), (-1, 5), (5, -1), (-100, 150), (2**63, 1)]
HUGE = [(0, 2**64 - 1), (2**64 - 1, 2**64 - 1), (2**64 - 1, 1), (2**64 - 50, 100)]


@pytest.mark.parametrize(("offset", "size"), [*BEYOND, *HUGE])
def test_a_region_beyond_its_file(memory, offset, size):
    with shared_file(100) as path:
        assert refusal(lambda: memory.register(Region("a", path.name, offset, size))) == (
            InvalidArgument,
            "failed to register shared memory region 'a': invalid args",
        )
        assert not mapped(path)


def test_a_region_of_many_gigabytes(memory):
    size = 6 << 30
    with shared_file(size) as path:
        memory.register(Region("a", path.name, 0, size))
        memory.find("a").view(size - 4, 4)[:] = b"last"
        memory.register(Region("b", path.name, size - 10, 10))
        assert bytes(memory.find("b").view(6, 4)) == b"last"
        assert path.stat().st_blocks * 512 < 1 << 20  # the rest is still only promised


def test_there_are_only_so_many(memory):
    assert repr(memory).startswith("<SystemSharedMemory: 0 of ") and repr(memory).endswith(" regions>")
    few = SystemSharedMemory(allowed=True, limit=2)
    with shared_file(8) as path:
        for name in "ab":
            few.register(Region(name, path.name, 0, 8))
        kind, text = refusal(lambda: few.register(Region("c", path.name, 0, 8)))
        assert (kind, text) == (
            ResourceExhausted,
            "cannot register shared memory region 'c': there are 2 already",
        )
        few.unregister("a")
        few.register(Region("c", path.name, 0, 8))


# --- Use ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [100, 101, -1, -(2**63), 2**63 - 1])
def test_an_offset_beyond(memory, offset):
    with shared_file(200) as path:
        memory.register(Region("a", path.name, 50, 100))
        text = "Invalid offset for shared memory region: 'a'"
        assert refusal(lambda: memory.find("a").view(offset, 1)) == (InvalidArgument, text)


@pytest.mark.parametrize(("offset", "size"), [(0, 101), (99, 2), (50, -1), (1, 2**63 - 1), (0, -(2**63))])
def test_a_size_beyond(memory, offset, size):
    with shared_file(200) as path:
        memory.register(Region("a", path.name, 50, 100))
        text = "Invalid offset + byte size for shared memory region: 'a'"
        assert refusal(lambda: memory.find("a").view(offset, size)) == (InvalidArgument, text)


def test_nothing_is_there_to_be_seen(memory):
    text = "Unable to find shared memory region: 'a'"
    assert refusal(lambda: memory.find("a").view(0, 1)) == (NotFound, text)
    text = "Unable to find system shared memory region: 'a'"
    assert refusal(lambda: memory.status("a")) == (NotFound, text)
    memory.unregister("a")
    memory.unregister("")
    assert memory.status("") == []


def test_a_view_outlives_its_region(memory):
    with shared_file(100) as path:
        memory.register(Region("a", path.name, 0, 100))
        region, view = memory.find("a"), memory.find("a").view(0, 10)
        memory.unregister("")
        assert not memory.status("")
        assert mapped(path)
        view[0] = 1
        region.view(1, 1)[0] = 2
        assert path.read_bytes()[:2] == b"\1\2"
        del view, region
        assert not mapped(path)


def test_a_region_that_became_smaller_is_not_touched(memory):
    with shared_file(20_000) as path:
        memory.register(Region("a", path.name, 100, 15_000))
        assert memory.find("a").view(9000, 100)
        os.truncate(path, 8192)
        kind, text = refusal(lambda: memory.find("a").view(9000, 100))
        assert (kind, text) == (
            InvalidArgument,
            (
                "Invalid offset + byte size for shared memory region: 'a': got 9000 + 100, but its file "
                "was made smaller and has 8092 bytes of it left"
            ),
        )
        memory.find("a").view(0, 8092)[8091] = 1
        os.truncate(path, 0)
        assert "has 0 bytes of it left" in refusal(lambda: memory.find("a").view(0, 1))[1]
        os.truncate(path, 20_000)
        assert path.stat().st_blocks == 0
        again = memory.find("a").view(9000, 100)
        assert path.stat().st_blocks > 0
        assert bytes(again) == bytes(100)


def test_what_is_used_is_set_aside(memory):
    """Or the first to touch it would crash when there is no more shared memory."""
    with shared_file(1 << 20) as path:
        memory.register(Region("a", path.name, 4096, 1 << 19))
        assert path.stat().st_blocks == 0
        view = memory.find("a").view(0, 8192)
        assert path.stat().st_blocks * 512 == 8192
        view[:] = bytes(8192)
        assert path.stat().st_blocks * 512 == 8192
        assert len(memory.find("a").view(0, 0)) == 0
        for offset in range(3000):  # more than are remembered
            memory.find("a").view(offset, 1)


def test_there_is_no_memory_for_what_is_promised(memory):
    free = os.statvfs("/dev/shm")
    size = free.f_blocks * free.f_frsize + 4096
    with shared_file(size) as path:
        memory.register(Region("a", path.name, 0, size))
        assert refusal(lambda: memory.find("a").view(0, size)) == (
            ResourceExhausted,
            f"there is no shared memory for {size} bytes of region 'a'",
        )
        assert path.stat().st_blocks == 0


def test_nothing_is_left_behind(memory):
    with shared_file(8192) as path:
        gc.collect()
        before = descriptors()
        for _ in range(1000):
            memory.register(Region("a", path.name, 0, 8192))
            memory.find("a").view(10, 20)[0] = 1
            memory.unregister("a")
        for _ in range(100):
            refusal(lambda: memory.register(Region("a", path.name, 0, 8193)))
        gc.collect()
        assert (descriptors(), mapped(path)) == (before, 0)


# --- Not allowed --------------------------------------------------------------------------------------


def test_it_may_not_be_allowed():
    memory = SystemSharedMemory(allowed=False)
    with shared_file(8) as path:
        assert refusal(lambda: memory.register(Region("a", path.name, 0, 8))) == (Unimplemented, DISABLED)
    assert refusal(lambda: memory.find("a").view(0, 8)) == (Unimplemented, DISABLED)
    assert memory.status("") == []
    memory.unregister("")
    memory.unregister("a")
    assert repr(memory) == "<SystemSharedMemory: not allowed>"
    cuda = CudaSharedMemory(allowed=False)
    assert refusal(lambda: cuda.register(CudaRegion("a", 0, 8), bytes(64))) == (Unimplemented, DISABLED)
    assert repr(cuda) == "<CudaSharedMemory: not allowed>"


# --- GPUs ---------------------------------------------------------------------------------------------


def test_there_is_no_memory_of_gpus():
    cuda = CudaSharedMemory(allowed=True)
    assert cuda.status("") == []
    cuda.unregister("")
    cuda.unregister("a")
    text = "Unable to find cuda shared memory region: 'a'"
    assert refusal(lambda: cuda.status("a")) == (NotFound, text)
    text = "failed to register CUDA shared memory region: 'a', GPUs not supported"
    assert refusal(lambda: cuda.register(CudaRegion("a", 0, 8), bytes(64))) == (InvalidArgument, text)
    for length in (0, 63, 65):
        got = refusal(lambda length=length: cuda.register(CudaRegion("a", 0, 8), bytes(length)))
        assert got == (InvalidArgument, "failed to register shared memory region: invalid args")
    assert repr(cuda) == "<CudaSharedMemory: 0 regions>"


# --- Any order ----------------------------------------------------------------------------------------

FILES = {"small": 100, "large": 8192}
NUMBERS = [
    0,
    1,
    2,
    98,
    99,
    100,
    101,
    4095,
    4096,
    4097,
    8191,
    8192,
    8193,
    -1,
    2**31,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
]

names = st.sampled_from(["a", "b", ""])
numbers = st.one_of(st.sampled_from(NUMBERS), st.integers(0, 120))
operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("register"), st.sampled_from("ab"), st.sampled_from([*FILES, "none"]), numbers, numbers
        ),
        st.tuples(st.just("view"), st.sampled_from("ab"), numbers, numbers),
        st.tuples(st.sampled_from(["unregister", "status"]), names),
    ),
    max_size=30,
)


class Naive:
    """What the regions should be: slices of bytes."""

    def __init__(self, contents):
        self.contents = contents
        self.regions = {}

    def register(self, name, file, offset, size):
        if name in self.regions:
            return AlreadyExists
        if offset < 0 or size <= 0:
            return InvalidArgument
        if file not in self.contents:
            return Internal
        if len(self.contents[file]) < offset + size:
            return InvalidArgument
        self.regions[name] = (file, offset, size)
        return None

    def view(self, name, offset, size):
        if name not in self.regions:
            return NotFound
        file, start, length = self.regions[name]
        if not 0 <= offset <= length - 1 or size < 0 or offset + size > length:
            return InvalidArgument
        return self.contents[file][start:][:length][offset:][:size]

    def unregister(self, name):
        self.regions = {} if name == "" else {key: of for key, of in self.regions.items() if key != name}

    def status(self, name):
        if name and name not in self.regions:
            return NotFound
        return {key for key in self.regions if not name or key == name}


@pytest.fixture(scope="module")
def files():
    with shared_file(FILES["small"]) as small, shared_file(FILES["large"]) as large:
        for path in (small, large):
            path.write_bytes((bytes(range(251)) * 33)[: path.stat().st_size])
        yield {"small": small, "large": large, "none": Path("none-of-that-name")}


@given(operations)
def test_any_order_of_calls(files, calls):
    memory = SystemSharedMemory(allowed=True)
    naive = Naive({name: path.read_bytes() for name, path in files.items() if name != "none"})

    def real(call, name, *arguments):
        try:
            if call == "register":
                file, offset, size = arguments
                return memory.register(Region(name, files[file].name, offset, size))
            if call == "view":
                return bytes(memory.find(name).view(*arguments))
            got = getattr(memory, call)(name)
        except YaisError as error:
            return type(error)
        return {region.name for region in got} if call == "status" else got

    for call, *arguments in calls:
        assert real(call, *arguments) == getattr(naive, call)(*arguments), (call, arguments)


# --- Threads ------------------------------------------------------------------------------------------


def test_threads_that_come_and_go(memory):
    """Who finds a region reads its bytes, whoever lets go of it meanwhile."""
    errors: list[BaseException] = []
    seen = 0
    deadline = time.monotonic() + 20
    stop = threading.Event()

    def comes_and_goes(path: Path) -> None:
        try:
            rounds = 0
            while (rounds < 100 or seen < 10) and time.monotonic() < deadline:
                rounds += 1
                with contextlib.suppress(AlreadyExists):
                    memory.register(Region("a", path.name, 0, 4096))
                memory.unregister("a")
        except BaseException as error:
            errors.append(error)

    def looks() -> None:
        nonlocal seen
        try:
            while not stop.is_set():
                try:
                    view = memory.find("a").view(4000, 96)
                except NotFound:
                    time.sleep(0)  # lets the others at it
                    continue
                assert bytes(view) == b"\5" * 96
                seen += 1
        except BaseException as error:
            errors.append(error)

    with shared_file(4096) as path:
        path.write_bytes(b"\5" * 4096)
        writers = [threading.Thread(target=comes_and_goes, args=(path,)) for _ in range(3)]
        readers = [threading.Thread(target=looks) for _ in range(2)]
        for thread in (*readers, *writers):
            thread.start()
        for thread in writers:
            thread.join(30)
        stop.set()
        for thread in readers:
            thread.join(30)
        assert not errors and seen >= 10
        assert not any(thread.is_alive() for thread in (*readers, *writers))
        assert not mapped(path)
