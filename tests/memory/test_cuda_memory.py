"""Device, managed and pinned memory: where it comes from, and when it goes."""

from __future__ import annotations

import gc
import logging
import threading

import numpy as np
import pytest

from yais.core.cpu_set import CpuSet
from yais.core.topology import NumaNode, Topology
from yais.errors import FailedPrecondition
from yais.lane import Placement
from yais.memory import fallbacks as module
from yais.memory.arena import Arena
from yais.memory.buffer import Buffer
from yais.memory.cuda.error import CudaError
from yais.memory.device_buffer import DeviceBuffer
from yais.memory.fallbacks import fallbacks
from yais.memory.pooled import PooledResource
from yais.memory.resource import MemoryResource
from yais.memory.tracked import TrackedResource
from yais.telemetry.memory import MemoryCollector
from yais.testing.cuda import FakeCuda

SOON = 20.0
MIB = 1 << 20


@pytest.fixture
def cuda():
    with FakeCuda(memory=MIB) as fake:
        yield fake


@pytest.fixture
def device(cuda):
    return cuda.device()


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    """Fall-backs, counted from 0."""
    monkeypatch.setattr(module, "_counts", type(module._counts)())


def place() -> Placement:
    node = Topology.read().nodes[0]
    return Placement("gpu0", node, node.cpus)


# --- Device memory ---------------------------------------------------------------------------------------


def test_device_memory_is_counted_by_owner_and_goes_back_at_once(cuda, device):
    lanes, tokens = device.memory(place()), device.memory(place(), owner="tokens")
    first, second = lanes.allocate(1000, stream=device.stream()), tokens.allocate(24)
    assert isinstance(first, DeviceBuffer)
    assert (first.size, first.handle % 256) == (1000, 0)
    assert (lanes.is_host_accessible, lanes.is_device_accessible) == (False, True)
    now = device.statistics()
    assert (now.total_bytes, now.free_bytes, now.held_bytes["device"]) == (MIB, MIB - 1024, 1024)
    assert {o: u.bytes for (o, k), u in device.tracker.statistics().items() if k == "device"} == {
        "gpu0": 1000,
        "tokens": 24,
    }
    first.close()
    second.close()
    first.close()
    assert cuda.calls.count("cuMemFree") == 2
    assert (first.size, first.handle, cuda.held) == (0, 0, {})
    assert repr(first) == "<CudaMemory: closed>"
    assert "for 'tokens'" in repr(tokens)


def test_memory_without_bytes(cuda, device):
    for resource in (device.memory(), device.managed()):
        with resource.allocate(0) as memory:
            assert (memory.size, memory.handle) == (0, 0)
    with device.staging().allocate(0) as buffer:
        assert buffer.size == 0
    assert not {"cuMemAlloc", "cuMemAllocManaged", "cuMemAllocHost", "cuMemHostRegister"} & set(cuda.calls)


@pytest.mark.parametrize("kind", ["memory", "managed"])
def test_negative_sizes(device, kind):
    with pytest.raises(ValueError, match="got size=-1"):
        getattr(device, kind)().allocate(-1)


def test_out_of_memory_has_the_numbers(cuda, device):
    memory = device.memory().allocate(MIB - 100)
    with pytest.raises(
        MemoryError, match=f"got 200 bytes to allocate for GPU 0, which has 100 of {MIB} bytes"
    ):
        device.memory().allocate(200)
    memory.close()
    device.memory().allocate(200).close()


def test_memory_that_was_dropped_makes_room(cuda, device):
    device.memory().allocate(MIB)
    gc.collect()
    assert cuda.held == {"device": MIB}  # nobody waits in a garbage collector
    device.memory().allocate(MIB).close()
    assert cuda.held == {}


@pytest.mark.parametrize("kind", ["device", "pinned"])
def test_nothing_is_freed_while_a_stream_may_use_it(cuda, device, kind):
    stream = device.stream()
    opened, started = threading.Event(), threading.Event()
    memory, source = device.memory().allocate(64), device.staging().allocate(64)

    def kernel():
        started.set()
        assert opened.wait(SOON)

    cuda.submit(stream.handle, "compute", kernel)
    stream.copy_in(memory.handle, source.array(np.uint8))
    assert started.wait(SOON)

    def free():
        (memory if kind == "device" else source).close()
        device.statistics()

    thread = threading.Thread(target=free)
    thread.start()
    assert cuda.held == {"device": 64, "pinned": 64}
    opened.set()
    thread.join(SOON)
    assert kind not in cuda.held
    stream.sync()
    memory.close()
    source.close()


def test_nothing_is_freed_early_where_there_is_no_event_to_wait_for(cuda, device, caplog):
    stream, opened = device.stream(), threading.Event()
    memory, other = device.memory().allocate(64), device.memory().allocate(64)
    cuda.submit(stream.handle, "compute", lambda: opened.wait(SOON))
    stream.copy(memory.handle, other.handle, 64)
    cuda.fail("cuEventCreate", "CUDA_ERROR_OUT_OF_MEMORY")
    cuda.fail("cuEventRecord", "CUDA_ERROR_INVALID_VALUE")
    threads = [threading.Thread(target=piece.close) for piece in (memory, other)]
    for thread in threads:
        thread.start()
    threads[0].join(0.05)
    assert cuda.held == {"device": 128}
    opened.set()
    for thread in threads:
        thread.join(SOON)
    assert cuda.held == {}
    stream.sync()
    assert "could not wait for an event" in caplog.text


def test_what_cannot_be_freed_is_logged(cuda, device, caplog):
    memory = device.memory().allocate(8)
    cuda.fail("cuMemFree", "CUDA_ERROR_INVALID_VALUE")
    address = memory.handle
    with caplog.at_level(logging.ERROR, "yais.memory"):
        memory.close()
    assert "GPU 0: could not free memory" in caplog.text
    device.activate()
    device.toolkit.call("cuMemFree", address)  # for the sake of the fixture


# --- Managed memory --------------------------------------------------------------------------------------


def test_managed_memory_is_read_mostly_and_moves_on_demand(cuda, device):
    stream = device.stream()
    with device.managed(owner="weights").allocate(2 * MIB) as memory:  # more than the GPU has
        assert cuda.held == {"managed": 2 * MIB}
        assert (memory.is_host_accessible, memory.is_device_accessible) == (True, True)
        assert device.toolkit.core.ManagedBuffer.from_handle(memory.handle, memory.size).read_mostly
        memory.prefetch(stream)
        stream.sync()
        assert [work.label for work in cuda.gpus[0].timeline] == ["prefetch to 0"]
        assert device.statistics().held_bytes["managed"] == 2 * MIB
    assert cuda.held == {}


def test_managed_memory_that_moves_in_any_case():
    with FakeCuda(properties={"concurrent_managed_access": False}) as cuda:
        device = cuda.device()
        with device.managed().allocate(8) as memory:
            memory.prefetch(device.stream())
        assert not {"ManagedBuffer.read_mostly", "ManagedBuffer.prefetch"} & set(cuda.calls)


def test_a_gpu_without_managed_memory():
    with (
        FakeCuda(properties={"managed_memory": False}) as cuda,
        pytest.raises(FailedPrecondition, match="has no managed memory"),
    ):
        cuda.device().managed().allocate(8)


def test_managed_memory_whose_advice_fails_goes_back(cuda, device):
    cuda.fail("ManagedBuffer.read_mostly", "CUDA_ERROR_INVALID_DEVICE")
    with pytest.raises(CudaError, match="advice on managed memory: CUDA_ERROR_INVALID_DEVICE"):
        device.managed().allocate(8)
    assert cuda.held == {}


# --- Pinned memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "near", "source", "refused"),
    [
        ({}, True, "the driver's pool of node 0", {}),
        ({}, False, "registered memory", {}),
        ({"host_numa_memory_pools_supported": False}, True, "registered memory", {"pinned_pool": 1}),
        ({"host_register_supported": False}, False, "the driver's own memory", {"pinned_registered": 1}),
    ],
)
def test_which_pinned_memory_is_taken(properties, near, source, refused):
    with FakeCuda(properties=properties) as cuda:
        device = cuda.device()
        resource = device.staging(place() if near else None)
        assert isinstance(resource, MemoryResource)
        assert source in repr(resource)
        assert {k: v for k, v in fallbacks().items() if k.startswith("pinned")} == refused
        with resource.allocate(100) as buffer:
            assert isinstance(buffer, Buffer)
            assert (buffer.size, buffer.is_device_accessible, cuda.held) == (100, True, {"pinned": 100})
            stream, memory = device.stream(), device.memory().allocate(100)
            buffer.array(np.uint8)[:] = 9
            stream.copy_in(memory.handle, buffer.array(np.uint8))
            buffer.array(np.uint8)[:] = 0
            stream.copy_out(buffer.array(np.uint8), memory.handle)
            stream.sync()
            memory.close()
        assert device.statistics().held_bytes["pinned"] == 0
        assert cuda.held == {}


@pytest.mark.parametrize(
    "failing",
    ["PinnedMemoryResource", "PinnedMemoryResource.allocate", "cuMemPoolSetAccess", "cuMemHostRegister"],
)
def test_a_way_that_is_refused_is_not_asked_again(cuda, device, failing):
    near = None if failing == "cuMemHostRegister" else place()
    cuda.fail(failing, "CUDA_ERROR_NOT_SUPPORTED", times=5)
    resource = device.staging(near)
    first = resource.allocate(10)
    asked = cuda.calls.count(failing)
    second = resource.allocate(10)
    assert cuda.calls.count(failing) == asked == 1
    feature = "pinned_registered" if near is None else "pinned_pool"
    assert fallbacks()[feature] == 1
    assert ("own" if near is None else "registered") in resource.source
    assert "PinnedMemoryResource" not in cuda.objects
    first.close()
    second.close()


def test_memory_of_a_pool_is_there_before_it_is_given(cuda, device):
    device.staging(place()).allocate(10).close()
    begun = cuda.calls.index("PinnedMemoryResource.allocate")
    assert "cuEventSynchronize" in cuda.calls[begun:]


def test_one_way_without_memory_is_asked_again(cuda, device):
    resource = device.staging()
    cuda.fail("cuMemHostRegister", "CUDA_ERROR_OUT_OF_MEMORY")
    first, second = resource.allocate(10), resource.allocate(10)
    assert cuda.calls.count("cuMemAllocHost") == 1
    assert cuda.calls.count("cuMemHostRegister") == 2
    assert fallbacks() == {}
    first.close()
    second.close()


def test_no_pinned_memory_at_all(cuda, device):
    resource = device.staging()
    for call in ("cuMemHostRegister", "cuMemAllocHost"):
        cuda.fail(call, "CUDA_ERROR_OUT_OF_MEMORY")
    with pytest.raises(MemoryError, match="cuMemAllocHost: CUDA_ERROR_OUT_OF_MEMORY"):
        resource.allocate(10)
    with pytest.raises(ValueError, match="got stream=3"):
        resource.allocate(10, stream=3)
    with pytest.raises(ValueError, match="got size=-3"):
        resource.allocate(-3)
    resource.allocate(10).close()


def test_a_gpu_that_has_failed_is_no_reason_to_fall_back(cuda, device):
    resource = device.staging()
    cuda.fail("cuMemHostRegister", "CUDA_ERROR_ILLEGAL_ADDRESS")
    with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
        resource.allocate(10)
    assert fallbacks() == {}
    assert "registered" in resource.source


def test_large_buffers_are_in_huge_pages_and_small_ones_are_not(device):
    resource = device.staging()
    size = resource._sources[0]._large.page_size
    small = [resource.allocate(100) for _ in range(4)]
    with resource.allocate(size) as large:
        assert large.handle % size == 0
        assert any(buffer.handle % size for buffer in small)
    for buffer in small:
        buffer.close()


def test_views_keep_pinned_memory(cuda, device):
    buffer = device.staging().allocate(100)
    array = buffer.array(np.uint8)[10:20]
    buffer.close()
    device.statistics()
    array[:] = 5
    assert cuda.held == {"pinned": 100}
    del array
    assert device.statistics().held_bytes["pinned"] == 0
    assert cuda.held == {}


def test_the_adaptors_work_over_it(cuda, device):
    tracked = TrackedResource(PooledResource(device.staging(place())), owner="lane")
    arena = Arena(tracked, 1000)
    piece = np.frombuffer(arena.take(100), np.uint8)
    stream, memory = device.stream(), device.memory().allocate(100)
    stream.copy_in(memory.handle, piece)
    stream.sync()
    assert tracked.kind == "pinned"
    assert tracked.statistics().bytes == 1000
    del piece
    arena.close()
    memory.close()
    assert tracked.statistics().bytes == 0
    tracked.upstream.trim()
    device.statistics()
    assert cuda.held == {}


def test_staging_is_one_for_each_node(device):
    node = NumaNode(7, CpuSet([0]), CpuSet([0]), {}, 0)
    near = device.staging(Placement("gpu0", node))
    assert near is device.staging(Placement("other", node))
    assert near is not device.staging()
    assert device.staging() is device.staging(Placement("anywhere"))
    assert "near node 7" in repr(near)


def test_prometheus_sees_all_kinds(device):
    with (
        device.memory(owner="m").allocate(1),
        device.managed(owner="m").allocate(2),
        device.staging().allocate(4),
    ):
        collector = MemoryCollector(device.tracker.statistics, fallbacks)
        (family, *_) = collector.collect()
        values = {(s.labels["owner"], s.labels["kind"]): s.value for s in family.samples}
    assert values == {("m", "device"): 1, ("m", "managed"): 2, ("gpu0", "pinned"): 4}
