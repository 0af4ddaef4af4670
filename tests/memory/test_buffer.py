"""Buffers: what they give out, and when their memory goes back."""

from __future__ import annotations

import gc
import logging
import mmap
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.memory.buffer import Buffer
from yais.memory.host import HostMemoryResource


class Releases:
    """Counts its calls."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def leased(size: int = 16) -> tuple[Buffer, Releases]:
    releases = Releases()
    return Buffer(memoryview(bytearray(size)), releases), releases


# --- What it is ---------------------------------------------------------------------------------------


def test_a_buffer_has_the_names_of_cuda_core() -> None:
    resource = HostMemoryResource()
    data = bytearray(b"abcd")
    buffer = Buffer(memoryview(data), resource=resource)
    assert buffer.size == 4 and buffer.memory_resource is resource and buffer.device_id == -1
    assert buffer.is_host_accessible and not buffer.is_device_accessible
    assert buffer.handle == np.frombuffer(data, np.uint8).ctypes.data
    assert repr(buffer) == "<Buffer of 4 bytes>"
    assert repr(Buffer.of(b"ab")) == "<Buffer of 2 bytes, read-only>"
    with buffer as same:
        assert same is buffer
    assert buffer.size == 0 and repr(buffer) == "<Buffer: closed>"


def test_a_buffer_of_memory_that_a_device_sees() -> None:
    class Pinned(HostMemoryResource):
        @property
        def is_device_accessible(self) -> bool:  # type: ignore[override]
            return True

    assert Buffer(memoryview(bytearray(1)), resource=Pinned()).is_device_accessible


def test_bytes_are_copied_between_buffers_of_one_size() -> None:
    source, target = Buffer.of(bytearray(b"abc")), Buffer.of(bytearray(3))
    assert source.copy_to(target) is target and bytes(target.view) == b"abc"
    target.copy_from(Buffer.of(b"xyz"))
    assert bytes(target.view) == b"xyz" and bytes(source.view) == b"abc"
    with pytest.raises(ValueError, match="got 2 bytes to copy, expected 3"):
        target.copy_from(Buffer.of(b"ab"))
    for call in (lambda: source.copy_to(target, stream=1), lambda: source.close(1)):
        with pytest.raises(ValueError, match="got stream=1, expected None"):
            call()
    assert source.size == 3


# --- Arrays -------------------------------------------------------------------------------------------


def test_arrays_are_views() -> None:
    buffer, _ = leased(16)
    array = buffer.array(np.int16, (2, 3), offset=4)
    array[:] = np.arange(6).reshape(2, 3)
    assert bytes(buffer.view) == bytes(4) + np.arange(6, dtype=np.int16).tobytes()
    assert buffer.array(np.float32).shape == (4,) and buffer.array("u1", 3).shape == (3,)
    assert buffer.array(np.int64, offset=16).shape == (0,) and buffer.array(np.int64, (2, 0)).shape == (2, 0)
    assert buffer.array(np.uint8, ()).shape == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.int32, (5,)), "shape=.5,. of int32: 20 bytes, expected at most 16"),
        ((np.int32, 4, 1), "shape=4 of int32: 16 bytes, expected at most 15"),
        ((np.int32, None, 2), "got 14 bytes, expected a multiple of 4 for int32"),
        ((np.uint8, None, 17), "got offset=17, expected 0 to 16"),
        ((np.uint8, None, -1), "got offset=-1, expected 0 to 16"),
    ],
)
def test_arrays_lie_within_the_buffer(arguments: tuple[Any, ...], message: str) -> None:
    buffer, _ = leased(16)
    with pytest.raises(ValueError, match=message):
        buffer.array(*arguments)


def test_numpy_takes_a_buffer() -> None:
    buffer, _ = leased(4)
    array = np.asarray(buffer)
    array[:] = 7
    assert bytes(buffer.view) == b"\7\7\7\7" and array.dtype == np.uint8
    assert not np.shares_memory(np.array(buffer), array)
    assert np.asarray(buffer, np.float32).tolist() == [7.0] * 4


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes written in Python have no buffer protocol")
def test_a_buffer_is_bytes_like() -> None:
    buffer, releases = leased(4)
    view = memoryview(buffer)
    view[0] = 1
    assert bytes(buffer) == b"\1\0\0\0"
    buffer.close()
    assert releases.count == 0
    view.release()
    del view
    assert releases.count == 1


def test_a_closed_buffer_is_empty() -> None:
    buffer, _ = leased()
    buffer.close()
    assert np.asarray(buffer).shape == (0,) and buffer.array(np.int32).size == 0
    with pytest.raises(ValueError, match="expected at most 0"):
        buffer.array(np.int32, 1)


# --- Other objects' memory ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        bytearray(b"12345678"),
        np.arange(8, dtype=np.float16),
        np.zeros((2, 3), np.complex64),
        np.zeros((2, 0)),
        memoryview(bytearray(8)).cast("I"),
        mmap.mmap(-1, 8),
    ],
    ids=lambda source: type(source).__name__,
)
def test_a_buffer_of_another_object(source: Any) -> None:
    buffer = Buffer.of(source)
    assert not buffer.view.readonly and buffer.view.format == "B" and buffer.view.ndim == 1
    assert bytes(buffer.view) == bytes(memoryview(source).tobytes())
    if buffer.size:
        buffer.view[0] = 65
        assert memoryview(source).tobytes()[0] == 65


def test_what_is_read_only_stays_so() -> None:
    buffer = Buffer.of(b"abc")
    assert buffer.view.readonly and not buffer.array(np.uint8).flags.writeable
    with pytest.raises(TypeError):
        buffer.view[0] = 1
    frozen = np.zeros(3, np.uint8)
    frozen.flags.writeable = False
    assert Buffer.of(frozen).view.readonly and Buffer.from_dlpack(frozen).view.readonly


def test_a_buffer_of_a_buffer_is_that_buffer() -> None:
    buffer, _ = leased()
    assert Buffer.of(buffer) is buffer


def test_a_buffer_of_something_with_gaps() -> None:
    with pytest.raises(ValueError, match="got a ndarray that is not contiguous"):
        Buffer.of(np.zeros((4, 4))[:, ::2])
    with pytest.raises(ValueError, match="got a memoryview that is not contiguous"):
        Buffer.of(memoryview(b"abcd")[::2])
    with pytest.raises(ValueError, match=r"shape \(4, 2\) with strides \(32, 16\), expected it contiguous"):
        Buffer.from_dlpack(np.zeros((4, 4))[:, ::2])
    with pytest.raises(ValueError, match=r"got <class 'int'>, expected a buffer or DLPack"):
        Buffer.of(5)


class Tensor:
    """Has DLPack and nothing else."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


def test_dlpack_both_ways() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    buffer = Buffer.of(Tensor(array))
    buffer.array(np.float32)[0] = 9
    assert array[0, 0] == 9 and buffer.size == 24
    again = np.from_dlpack(buffer)
    assert again.dtype == np.uint8 and np.shares_memory(again, array)
    assert buffer.__dlpack_device__() == (1, 0)


def test_a_buffer_keeps_its_source_alive() -> None:
    source, releases = leased(8)
    buffer = Buffer.from_dlpack(source)
    source.close()
    del source
    assert releases.count == 0
    buffer.close()
    assert releases.count == 1


# --- Leases -------------------------------------------------------------------------------------------

TAKEN: dict[str, Callable[[Buffer], Any]] = {
    "the view": lambda buffer: buffer.view,
    "a slice": lambda buffer: buffer.view[3:][1:],
    "a cast": lambda buffer: buffer.view.cast("H"),
    "an empty slice": lambda buffer: buffer.view[:0],
    "an array": lambda buffer: buffer.array(np.int32, (2, 2)).T[1:],
    "numpy of it": lambda buffer: np.asarray(buffer)[2:].view("u2"),
    "numpy of the view": lambda buffer: np.asarray(buffer.view)[1:],
    "numpy of what is below": lambda buffer: np.asarray(buffer.view.obj)[1:],
    "a part of what is below": lambda buffer: buffer.view.obj[1:][1:],
    "bytes of the view": lambda buffer: np.frombuffer(buffer.view, np.uint8, 3),
    "a capsule": lambda buffer: buffer.__dlpack__(),
    "a tensor": np.from_dlpack,
    "another buffer": lambda buffer: Buffer.of(buffer.view),
}


@pytest.mark.parametrize("take", TAKEN.values(), ids=TAKEN.keys())
@pytest.mark.parametrize("end", ["closed", "collected"])
def test_memory_goes_back_with_the_last_that_touches_it(take: Callable[[Buffer], Any], end: str) -> None:
    buffer, releases = leased()
    taken = take(buffer)
    if end == "closed":
        buffer.close()
        buffer.close()
    del buffer
    assert releases.count == 0
    del taken
    assert releases.count == 1


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_a_buffer_without_views_is_released_at_once(size: int) -> None:
    buffer, releases = leased(size)
    assert buffer.size == size
    buffer.close()
    assert releases.count == 1
    del buffer
    assert releases.count == 1


def test_nothing_below_moves_before_the_release() -> None:
    """A bytearray can be resized, and a mapping closed, in the release but not before."""
    data, mapping = bytearray(8), mmap.mmap(-1, 8)
    buffers = [
        Buffer(memoryview(data), lambda: data.extend(b"x")),
        Buffer(memoryview(mapping), mapping.close),
    ]
    for change in (lambda: data.extend(b"x"), mapping.close):
        with pytest.raises(BufferError):
            change()
    for buffer in buffers:
        buffer.close()
    assert len(data) == 9 and mapping.closed


def test_a_buffer_in_a_cycle_is_collected() -> None:
    buffer, releases = leased()
    cycle: list[Any] = [buffer, buffer.view[1:]]
    cycle.append(cycle)
    del buffer, cycle
    assert releases.count == 0
    gc.collect()
    assert releases.count == 1


def test_buffers_may_be_nested() -> None:
    outer, inner = Releases(), Releases()
    below = Buffer(memoryview(bytearray(4)), inner)

    def release() -> None:
        outer()
        below.close()

    buffer = Buffer(below.view, release)
    view = buffer.view[1:]
    buffer.close()
    assert (outer.count, inner.count) == (0, 0)
    del view
    assert (outer.count, inner.count) == (1, 1)


def test_a_release_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise OSError("no")

    with caplog.at_level(logging.ERROR, "yais.memory"):
        Buffer(memoryview(bytearray(3)), fail).close()
    (record,) = caplog.records
    assert record.getMessage() == "the release of a buffer of 3 bytes raised" and record.exc_info


def test_the_last_view_may_go_on_another_thread() -> None:
    where: list[str] = []
    buffer = Buffer(memoryview(bytearray(3)), lambda: where.append(threading.current_thread().name))
    views = [buffer.view[1:]]
    buffer.close()
    thread = threading.Thread(target=views.clear, name="elsewhere")
    thread.start()
    thread.join(5)
    assert where == ["elsewhere"]


@given(st.lists(st.tuples(st.sampled_from(["take", "drop", "close"]), st.integers(0, 5))))
def test_released_once_and_never_early(steps: list[tuple[str, int]]) -> None:
    buffer, releases = leased()
    views: list[Any] = []
    closed = False
    for step, which in steps:
        if step == "take" and not closed:
            views.append(list(TAKEN.values())[which](buffer))
        elif step == "drop" and views:
            views.pop(which % len(views))
        elif step == "close":
            buffer.close()
            closed = True
        assert releases.count == (closed and not views)
    buffer.close()
    views.clear()
    assert releases.count == 1
