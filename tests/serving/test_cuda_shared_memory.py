"""The regions of clients on GPUs, without a server: the client is another process's CUDA, both are fakes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from many_threads import in_threads

from yais.errors import (
    AlreadyExists,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    YaisError,
)
from yais.memory.cuda.memory import CudaMemory
from yais.serving.cuda_shared_memory import CudaRegion, CudaSharedMemory
from yais.testing.cuda import FakeCuda

SIZE = 4096
SOON = 10.0


class Client:
    """Another process, with memory on the GPU."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.memory: CudaMemory = cuda.device().memory().allocate(SIZE)
        self.handle = cuda.device().export(self.memory)
        self.view[:] = bytes(SIZE)

    @property
    def view(self) -> memoryview:
        return self.cuda.view(self.memory.handle, SIZE)


@pytest.fixture
def client() -> Iterator[Client]:
    with FakeCuda() as cuda:
        made = Client(cuda)
        yield made
        made.memory.close()


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    """The server's."""
    with FakeCuda() as fake:
        yield fake


@pytest.fixture
def memory(cuda: FakeCuda, client: Client) -> Iterator[CudaSharedMemory]:
    made = CudaSharedMemory(allowed=True, device=cuda.device)
    yield made
    made.close()
    assert made.status("") == []


def refusal(call: Callable[[], object]) -> tuple[type[YaisError], str]:
    with pytest.raises(YaisError) as caught:
        call()
    return type(caught.value), str(caught.value)


# --- Registration ---------------------------------------------------------------------------------------


def test_what_is_written_is_in_the_clients_memory(memory, client):
    memory.register(CudaRegion("mine", 0, 1000), client.handle)
    assert "mine" in memory and repr(memory) == "<CudaSharedMemory: 1 regions>"
    memory.find("mine").write(3, memoryview(b"hello"))
    assert bytes(client.view[:10]) == b"\0\0\0hello\0\0"
    client.view[5] = ord("L")
    read = memory.find("mine").read(2, 7)
    assert bytes(read) == b"\0heLlo\0" and read.readonly
    client.view[5] = ord("x")
    assert bytes(read) == b"\0heLlo\0"  # a copy


def test_status(memory, client):
    regions = [CudaRegion(name, 0, size) for name, size in (("a", 1), ("b", SIZE))]
    for region in regions:
        memory.register(region, client.handle)
    assert memory.status("") == regions
    assert memory.status("b") == regions[1:]
    text = "Unable to find cuda shared memory region: 'c'"
    assert refusal(lambda: memory.status("c")) == (NotFound, text)
    assert refusal(lambda: memory.find("c")) == (NotFound, "Unable to find shared memory region: 'c'")


def test_a_mapping_goes_with_the_last_region_of_its_handle(cuda, memory, client):
    for name in "ab":
        memory.register(CudaRegion(name, 0, SIZE), client.handle)
    memory.unregister("a")
    assert bytes(memory.find("b").read(0, 4)) == bytes(4)
    memory.unregister("b")
    memory.unregister("b")
    memory.unregister("never")
    assert "ipc" not in cuda.held


@pytest.mark.parametrize(
    ("region", "kind", "text"),
    [
        (CudaRegion("a", 0, SIZE + 1), InvalidArgument, "expected at most its 4096"),
        (CudaRegion("a", 0, 2**64 - 1), InvalidArgument, "expected at most its 4096"),
        (CudaRegion("a", 0, 0), InvalidArgument, "failed to register shared memory region 'a': invalid args"),
        (CudaRegion("a", 1, 8), InvalidArgument, "got GPU 1, expected one of the 1 there are"),
        (CudaRegion("a", -1, 8), InvalidArgument, "got GPU -1"),
        (CudaRegion("taken", 0, 8), AlreadyExists, "shared memory region 'taken' already in manager"),
    ],
)
def test_regions_that_are_none(cuda, memory, client, region, kind, text):
    memory.register(CudaRegion("taken", 0, 8), client.handle)
    got, said = refusal(lambda: memory.register(region, client.handle))
    assert (got is kind and text in said and "failed to register" in said) or kind is AlreadyExists
    memory.unregister("taken")
    assert "ipc" not in cuda.held


def test_handles_that_are_none(memory, client):
    got, said = refusal(lambda: memory.register(CudaRegion("a", 0, 8), bytes(64)))
    assert got is InvalidArgument
    assert said.startswith(
        "failed to register CUDA shared memory region 'a': failed to open CUDA IPC handle: got a CUDA handle "
        "that does not open on GPU 0"
    )
    for length in (0, 63, 65):
        got = refusal(lambda length=length: memory.register(CudaRegion("a", 0, 8), bytes(length)))
        assert got == (InvalidArgument, "failed to register shared memory region: invalid args")
    memory.register(CudaRegion("a", 0, 8), client.handle)


def test_too_many_regions(cuda, client):
    memory = CudaSharedMemory(allowed=True, device=cuda.device, limit=1)
    memory.register(CudaRegion("a", 0, 8), client.handle)
    text = "cannot register shared memory region 'b': there are 1 already"
    assert refusal(lambda: memory.register(CudaRegion("b", 0, 8), client.handle)) == (ResourceExhausted, text)
    memory.close()
    memory.close()


@pytest.mark.parametrize(
    ("call", "error", "kind"),
    [
        ("cuIpcOpenMemHandle", "CUDA_ERROR_MAP_FAILED", InvalidArgument),
        ("cuIpcOpenMemHandle", "CUDA_ERROR_OUT_OF_MEMORY", ResourceExhausted),
        ("cuMemGetAddressRange", "CUDA_ERROR_INVALID_VALUE", InvalidArgument),
    ],
)
def test_registrations_that_fail(cuda, memory, client, call, error, kind):
    cuda.fail(call, error)
    got, said = refusal(lambda: memory.register(CudaRegion("a", 0, 8), client.handle))
    assert got is kind and error in said
    assert memory.status("") == [] and "ipc" not in cuda.held
    memory.register(CudaRegion("a", 0, 8), client.handle)


# --- Use ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "size", "text"),
    [
        (1000, 1, "Invalid offset for shared memory region: 'a'"),
        (-1, 1, "Invalid offset for shared memory region: 'a'"),
        (0, 1001, "Invalid offset + byte size for shared memory region: 'a'"),
        (999, 2, "Invalid offset + byte size for shared memory region: 'a'"),
        (0, -1, "Invalid offset + byte size for shared memory region: 'a'"),
        (1, 2**63 - 1, "Invalid offset + byte size for shared memory region: 'a'"),
    ],
)
def test_beyond_the_region(memory, client, offset, size, text):
    memory.register(CudaRegion("a", 0, 1000), client.handle)
    region = memory.find("a")
    assert refusal(lambda: region.check(offset, size)) == (InvalidArgument, text)
    assert refusal(lambda: region.read(offset, size)) == (InvalidArgument, text)
    if 0 < size < 2000:
        assert refusal(lambda: region.write(offset, memoryview(bytes(size)))) == (InvalidArgument, text)


def test_nothing_is_nothing(cuda, memory, client):
    memory.register(CudaRegion("a", 0, 8), client.handle)
    before = cuda.calls.count("cuMemcpyAsync")
    assert memory.find("a").read(7, 0) == b""
    memory.find("a").write(7, memoryview(b""))
    assert cuda.calls.count("cuMemcpyAsync") == before


@pytest.mark.parametrize("call", ["cuMemcpyAsync", "cuEventRecord", "cuEventSynchronize"])
def test_copies_that_fail(cuda, memory, client, call):
    memory.register(CudaRegion("a", 0, 8), client.handle)
    region = memory.find("a")
    region.read(0, 8)
    cuda.fail(call, "CUDA_ERROR_INVALID_VALUE")
    cuda.fail("cuStreamSynchronize", "CUDA_ERROR_INVALID_VALUE", times=2)  # which waits without an event
    got, said = refusal(lambda: region.read(0, 8))
    assert got is Internal
    assert said.startswith("cannot read CUDA shared memory region 'a': ") and "INVALID_VALUE" in said
    cuda.fail(call, "CUDA_ERROR_INVALID_VALUE")
    got, said = refusal(lambda: region.write(0, memoryview(b"hello")))
    assert said.startswith("cannot write CUDA shared memory region 'a': ")
    assert cuda.gpus[0].pending == 0
    region.write(0, memoryview(b"hello"))
    assert bytes(region.read(0, 8)) == b"hello\0\0\0"


def test_no_memory_for_a_copy(cuda, memory, client, monkeypatch):
    memory.register(CudaRegion("a", 0, 8), client.handle)

    def refuse(*_arguments, **_options):
        raise MemoryError("no more pages to pin")

    monkeypatch.setattr("yais.memory.cuda.pinned.PinnedResource.allocate", refuse)
    text = "no memory to read CUDA shared memory region 'a': no more pages to pin"
    assert refusal(lambda: memory.find("a").read(0, 8)) == (ResourceExhausted, text)


def test_unregistered_while_in_use(cuda, memory, client):
    memory.register(CudaRegion("a", 0, 8), client.handle)
    region = memory.find("a")
    region.acquire()
    memory.unregister("a")
    assert "a" not in memory and cuda.held["ipc"]
    memory.register(CudaRegion("a", 0, 16), client.handle)  # the name is free
    region.write(0, memoryview(b"late"))
    region.release()
    assert bytes(client.view[:4]) == b"late"
    gone = (NotFound, "Unable to find shared memory region: 'a'")
    assert refusal(region.acquire) == gone
    assert refusal(lambda: region.read(0, 1)) == gone
    assert refusal(lambda: region.write(0, memoryview(b"x"))) == gone
    assert bytes(memory.find("a").read(0, 4)) == b"late"


def test_copies_at_once(cuda, memory, client):
    """Each has a stream of its own, and they are used again."""
    memory.register(CudaRegion("a", 0, SIZE), client.handle)
    region = memory.find("a")

    def works(number: int) -> None:
        for turn in range(50):
            contents = bytes([turn, number]) * 100
            region.write(1000 * number, memoryview(contents))
            assert bytes(region.read(1000 * number, 200)) == contents

    in_threads(4, works)
    assert 1 <= cuda.objects["FakeStream"] <= 4


def test_what_is_read_stays_when_all_is_closed(cuda, client):
    memory = CudaSharedMemory(allowed=True, device=cuda.device)
    memory.register(CudaRegion("a", 0, SIZE), client.handle)
    client.view[:4] = b"here"
    read = memory.find("a").read(0, SIZE)
    memory.close()
    assert bytes(read[:4]) == b"here"
    del read


def test_closed_while_something_is_copied(client):
    gate = threading.Event()
    with FakeCuda(engines={"copy_out": 1}) as cuda:
        memory = CudaSharedMemory(allowed=True, device=cuda.device)
        memory.register(CudaRegion("a", 0, SIZE), client.handle)
        region = memory.find("a")
        client.view[:4] = b"here"
        with_gate = cuda.device().stream()
        cuda.submit(with_gate.handle, "copy_out", lambda: gate.wait(SOON))
        read = []
        reader = threading.Thread(target=lambda: read.append(bytes(region.read(0, 4))))
        reader.start()
        deadline = time.monotonic() + SOON
        while cuda.gpus[0].pending_by_kind()["copy_out"] < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        memory.close()
        assert cuda.held["ipc"]
        gate.set()
        reader.join(SOON)
        assert read == [b"here"]
        assert "ipc" not in cuda.held
        with_gate.close()
        assert "FakeStream" not in cuda.objects


operations = st.lists(
    st.one_of(
        st.tuples(st.just("register"), st.sampled_from("ab"), st.integers(-1, 10)),
        st.tuples(st.just("unregister"), st.sampled_from(["a", "b", ""])),
        st.tuples(st.just("acquire"), st.sampled_from("ab")),
        st.tuples(st.just("release")),
        st.tuples(st.just("write"), st.sampled_from("ab"), st.integers(-1, 10), st.integers(0, 10)),
    ),
    max_size=25,
)


@given(operations)
def test_any_order_of_calls(calls):
    with FakeCuda() as others, FakeCuda() as cuda:
        client = Client(others)
        memory = CudaSharedMemory(allowed=True, device=cuda.device)
        sizes: dict[str, int] = {}
        held = []
        for name, *arguments in calls:
            if name == "register":
                region, size = arguments
                wanted = AlreadyExists if region in sizes else InvalidArgument if size < 1 else None
                if wanted is None:
                    memory.register(CudaRegion(region, 0, size), client.handle)
                    sizes[region] = size
                else:
                    with pytest.raises(wanted):
                        memory.register(CudaRegion(region, 0, size), client.handle)
            elif name == "unregister":
                memory.unregister(arguments[0])
                sizes = {key: size for key, size in sizes.items() if arguments[0] not in {"", key}}
            elif name == "release":
                if held:
                    held.pop().release()
            elif arguments[0] not in sizes:
                with pytest.raises(NotFound):
                    memory.find(arguments[0])
            elif name == "acquire":
                held.append(memory.find(arguments[0]))
                held[-1].acquire()
            else:
                region, offset, size = arguments
                fits = 0 <= offset < sizes[region] and offset + size <= sizes[region]
                if fits:
                    memory.find(region).write(offset, memoryview(b"x" * size))
                    assert bytes(client.view[offset : offset + size]) == b"x" * size
                else:
                    with pytest.raises(InvalidArgument):
                        memory.find(region).write(offset, memoryview(b"x" * size))
            assert {region.name for region in memory.status("")} == set(sizes)
        for region in held:
            assert cuda.held["ipc"]
            region.release()
        memory.close()
        assert "ipc" not in cuda.held
        client.memory.close()
