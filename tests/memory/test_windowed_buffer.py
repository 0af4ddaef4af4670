"""Windowed buffers, against the obvious slicing of the whole stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.errors import DeadlineExceeded
from yais.memory.buffer import Buffer
from yais.memory.windowed_buffer import WindowedBuffer, WindowedBufferStatistics

TIMEOUT = 20.0


def sliced(stream: bytes, window: int, overlap: int) -> list[bytes]:
    """What the windows of a stream are."""
    windows = []
    start = 0
    while start + window <= len(stream):
        windows.append(stream[start : start + window])
        start += window - overlap
    if len(stream) - start > (overlap if windows else 0):
        windows.append(stream[start:])
    return windows


sizes = st.integers(1, 12).flatmap(lambda window: st.tuples(st.just(window), st.integers(0, window - 1)))


@given(sizes, st.integers(1, 5), st.binary(max_size=150), st.lists(st.integers(1, 40), max_size=10))
def test_windows_are_slices_of_the_stream(
    size: tuple[int, int], windows: int, stream: bytes, pieces: list[int]
) -> None:
    seen: list[bytes] = []
    buffer = WindowedBuffer(*size, windows, on_window=lambda window: seen.append(bytes(window.view)))
    assert buffer.size == size[0] + (windows - 1) * (size[0] - size[1])
    rest = stream
    for piece in pieces:
        buffer.append(rest[:piece], timeout=0)
        rest = rest[piece:]
    buffer.append(rest, timeout=0)
    buffer.close()
    assert seen == sliced(stream, *size)
    now = buffer.statistics()
    assert (now.bytes_total, now.windows_total, now.held) == (len(stream), len(seen), 0)


@given(sizes, st.integers(1, 5), st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=60))
def test_windows_that_are_held_do_not_change(
    size: tuple[int, int], windows: int, steps: list[tuple[bool, int]]
) -> None:
    """Appends what there is room for, and releases in any order."""
    window, overlap = size
    held: list[tuple[int, np.ndarray]] = []
    number = 0

    def keep(buffer: Buffer) -> None:
        nonlocal number
        held.append((number, buffer.array(np.uint8)))
        number += 1

    buffer = WindowedBuffer(window, overlap, windows, on_window=keep)
    stream = b""
    for append, count in steps:
        if append:
            data = bytes((len(stream) + index) % 251 for index in range(count))
            taken = buffer.try_append(data)
            assert taken == count or held
            stream += data[:taken]
        elif held:
            held.pop(count % len(held))
        assert len(held) <= windows and buffer.statistics().held == len(held)
        starts = [(index * (window - overlap), array.tobytes()) for index, array in held]
        assert all(part == stream[start : start + window] for start, part in starts)
    before = len(stream)
    while len(stream) < before + 2 * window:  # with nothing held it goes on
        held.clear()
        taken = buffer.try_append(bytes(window))
        assert taken > 0
        stream += bytes(taken)
    assert number == sum(len(part) == window for part in sliced(stream, *size))


@pytest.mark.parametrize("overlap", [0, 3, 7])
@pytest.mark.parametrize("windows", [1, 2, 4])
def test_another_thread_takes_the_windows(windows: int, overlap: int) -> None:
    stream = np.random.default_rng(0).bytes(500)
    with ThreadPoolExecutor(1) as pool, WindowedBuffer(8, overlap, windows, timeout=TIMEOUT) as buffer:
        taken = pool.submit(lambda: [bytes(window.view) for window in buffer])
        for start in range(0, len(stream), 37):
            buffer.append(stream[start : start + 37], timeout=TIMEOUT)
        buffer.close()
        assert taken.result(TIMEOUT) == sliced(stream, 8, overlap)


@pytest.mark.parametrize("windows", [1, 3])
async def test_a_coroutine_takes_the_windows(windows: int) -> None:
    stream = np.random.default_rng(1).bytes(300)
    buffer = WindowedBuffer(8, 2, windows, timeout=TIMEOUT)

    def produce() -> None:
        with buffer:
            buffer.append(stream, timeout=TIMEOUT)

    thread = threading.Thread(target=produce)
    thread.start()
    assert [bytes(window.view) async for window in buffer] == sliced(stream, 8, 2)
    thread.join(TIMEOUT)


def test_a_window_is_a_view_of_the_buffer() -> None:
    buffer = WindowedBuffer(4, 2, 3, timeout=0)
    buffer.append(b"abcdefgh", timeout=0)
    first, second, third = (window.handle for window in buffer_of(buffer, 3))
    assert (second - first, third - second) == (2, 2)


def buffer_of(buffer: WindowedBuffer, count: int) -> list[Buffer]:
    iterator = iter(buffer)
    return [Buffer(next(iterator).view) for _ in range(count)]


def test_a_full_buffer_says_how_much_it_took() -> None:
    buffer = WindowedBuffer(4, 0, 2)
    assert buffer.try_append(b"0123456789") == 8
    assert buffer.try_append(b"89") == 0
    assert buffer.statistics() == WindowedBufferStatistics(2, held=2, ready=2, bytes_total=8, windows_total=2)
    assert repr(buffer) == "<WindowedBuffer: 2 of 2 windows held, 2 of them ready>"
    with pytest.raises(DeadlineExceeded, match=r"2 of 2 windows held.*: took 0 of 2 bytes within 0.01 s"):
        buffer.append(b"89", timeout=0.01)
    iterator = iter(buffer)
    with next(iterator) as window:
        kept = window.array(np.uint8)
    assert buffer.try_append(b"8") == 0
    del kept
    assert buffer.try_append(b"89") == 2
    with pytest.raises(DeadlineExceeded, match="took 2 of 8 bytes"):
        buffer.append(b"abcdefgh", timeout=0)
    buffer.close()
    assert bytes(next(iterator).view) == b"4567"
    assert bytes(next(iterator).view) == b"89ab"
    assert next(iterator, None) is None
    assert repr(buffer).startswith("<WindowedBuffer (closed): 0 of 2")


def test_append_goes_on_when_a_window_is_released() -> None:
    buffer = WindowedBuffer(4, 0, 1, timeout=TIMEOUT)
    buffer.append(b"0123", timeout=0)
    iterator = iter(buffer)
    window = next(iterator)
    with ThreadPoolExecutor(1) as pool:
        appending = pool.submit(buffer.append, b"4567", timeout=TIMEOUT)
        with pytest.raises(TimeoutError):
            appending.result(0.05)
        assert bytes(window.view) == b"0123"
        window.close()
        appending.result(TIMEOUT)
    assert bytes(next(iterator).view) == b"4567"


def test_samples_are_appended_as_they_are() -> None:
    buffer = WindowedBuffer(8, 4, 2, timeout=0)
    buffer.append(np.arange(5, dtype=np.int16), timeout=0)
    buffer.close()
    assert [window.array(np.int16).tolist() for window in buffer] == [[0, 1, 2, 3], [2, 3, 4]]


def test_the_iteration_has_a_timeout_and_loses_nothing() -> None:
    buffer = WindowedBuffer(2, 0, 2, timeout=0.01)
    with pytest.raises(DeadlineExceeded, match=r"no window within 0.01 s"):
        next(iter(buffer))

    async def first() -> bytes:
        async for window in buffer:
            return bytes(window.view)
        return b""

    with pytest.raises(DeadlineExceeded, match=r"no window within 0.01 s"):
        asyncio.run(first())
    buffer.append(b"ab", timeout=0)
    assert asyncio.run(first()) == b"ab"


async def test_a_window_that_a_cancelled_task_waited_for_is_not_lost() -> None:
    buffer = WindowedBuffer(2, 0, 2, timeout=TIMEOUT)
    task = asyncio.ensure_future(anext(aiter(buffer)))
    await asyncio.sleep(0)
    buffer.append(b"ab", timeout=0)  # it is on its way
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bytes((await anext(aiter(buffer))).view) == b"ab"


def test_what_a_callback_raises() -> None:
    def fail(window: Buffer) -> None:
        raise OSError(bytes(window.view))

    buffer = WindowedBuffer(2, 0, 1, on_window=fail)
    with pytest.raises(OSError, match="ab"):
        buffer.append(b"abcd", timeout=0)
    with pytest.raises(OSError, match="cd"):
        buffer.append(b"cd", timeout=0)


def test_a_closed_buffer_takes_nothing() -> None:
    buffer = WindowedBuffer(2, 0, 1)
    buffer.close()
    buffer.close()
    assert list(buffer) == []
    calls: tuple[Callable[[], object], ...] = (
        lambda: buffer.append(b"a", timeout=0),
        lambda: buffer.try_append(b"a"),
    )
    for call in calls:
        with pytest.raises(RuntimeError, match="expected it open"):
            call()


@pytest.mark.parametrize(("window", "overlap", "windows"), [(0, 0, 1), (4, 4, 1), (4, -1, 1), (4, 0, 0)])
def test_impossible_sizes(window: int, overlap: int, windows: int) -> None:
    with pytest.raises(
        ValueError, match=f"got {windows} windows of {window} bytes that overlap by {overlap}"
    ):
        WindowedBuffer(window, overlap, windows)
