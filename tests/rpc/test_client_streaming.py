"""`ClientStreaming` and `ClientServerStreaming`."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from client_peer import CHAT, COUNT, ECHO, MUTE, TOTAL, Peer, client_threads, peering
from echoing import SOON, eventually, on_thread
from streaming import fill

import yais
from yais.rpc.client import Channels, ClientServerStreaming, ClientStreaming, ClientUnary


@pytest.fixture
def peer():
    with peering() as running:
        yield running


@pytest.fixture
def channels(peer: Peer):
    with Channels(f"127.0.0.1:{peer.port}") as opened:
        yield opened


@pytest.fixture
def count(channels: Channels):
    return ClientServerStreaming(channels, COUNT, timeout=SOON)


@pytest.fixture
def chat(channels: Channels):
    return ClientStreaming(channels, CHAT, timeout=SOON)


def numbers(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


# One request, many replies.


@pytest.mark.parametrize("max_replies", [1, 16])
def test_all_replies_in_order(channels, max_replies):
    count = ClientServerStreaming(channels, COUNT, timeout=SOON, max_replies=max_replies)
    stream = count.open(b"500")
    assert [int(reply) for reply in stream] == list(range(500))
    assert list(stream) == []
    assert stream.status.result(SOON).ok
    assert stream.over


def test_no_replies(count):
    assert list(count.open(b"0")) == []


async def test_all_replies_with_await(count):
    stream = count.open(b"500")
    assert [int(reply) async for reply in stream] == list(range(500))
    assert (await stream.status).code is yais.Code.OK


def test_replies_to_a_callback(count):
    got: list[int] = []
    stream = count.open(b"500", on_reply=lambda reply: got.append(int(reply)))
    assert stream.status.result(SOON).ok
    assert got == list(range(500))  # the status comes after the last of them
    with pytest.raises(yais.FailedPrecondition, match="on_reply"):
        next(stream)


def test_an_error_comes_after_the_replies(count):
    stream = count.open(b"3 fail")
    got = []
    with pytest.raises(yais.DataLoss, match="the rest is lost"):
        got.extend(iter(lambda: next(stream), None))
    with pytest.raises(yais.DataLoss):
        next(stream)
    status = stream.status.result(SOON)
    assert status.code is yais.Code.DATA_LOSS and status.message == "the rest is lost"
    with pytest.raises(yais.DataLoss):
        status.check()


async def test_an_error_with_await(count):
    stream = count.open(b"3 fail")
    assert [await anext(stream) for _ in range(3)] == numbers(3)
    with pytest.raises(yais.DataLoss):
        await anext(stream)


def test_a_callback_that_raises_ends_the_call(count, caplog):
    def fail(_reply: bytes) -> None:
        raise yais.OutOfRange("enough")

    status = count.open(b"3 hold", on_reply=fail).status.result(SOON)
    assert (status.code, status.message) == (yais.Code.OUT_OF_RANGE, "enough")
    assert "could not be delivered" in caplog.text


def test_a_reply_that_cannot_be_read_ends_the_call(channels):
    stream = ClientServerStreaming(channels, COUNT, None, {b"0": "zero"}.__getitem__, timeout=SOON).open(b"9")
    assert next(stream) == "zero"
    with pytest.raises(yais.Internal, match="cannot be read"):
        next(stream)


def test_replies_that_nobody_reads_hold_the_server(peer, channels, count):
    stream = ClientServerStreaming(channels, COUNT, timeout=SOON, max_replies=2).open(b"200 long")
    assert peer.opened.wait(SOON)
    assert next(stream).strip() == b"0"
    # Other calls of the connection go on; 200 replies are 4 MB, far more than connections buffer.
    assert ClientUnary(channels, ECHO, timeout=SOON).call(b"x") == b"x"
    assert not stream.status.done()
    assert "2 replies unread" in repr(stream) or "1 replies unread" in repr(stream)
    assert [int(reply) for reply in stream] == list(range(1, 200))


def test_at_most_max_replies_are_kept(channels):
    kept = 3
    read: list[bytes] = []
    received = threading.Semaphore(0)

    def note(message: bytes) -> bytes:
        read.append(message)
        received.release()
        return message

    count = ClientServerStreaming(channels, COUNT, None, note, timeout=SOON, max_replies=kept)
    with count.open(b"50") as stream:
        for _ in range(kept):
            assert received.acquire(timeout=SOON)
        ClientUnary(channels, ECHO, timeout=SOON).call(b"what came before has been seen")
        assert len(read) == kept
        assert next(stream) == b"0"
        assert received.acquire(timeout=SOON)
        ClientUnary(channels, ECHO, timeout=SOON).call(b"what came before has been seen")
        assert len(read) == kept + 1


def test_cancel_while_a_reader_waits(peer, count):
    stream = count.open(b"1 hold")
    assert next(stream) == b"0"
    errors: list[BaseException] = []

    def read() -> None:
        try:
            next(stream)
        except yais.YaisError as error:
            errors.append(error)

    thread = on_thread(read)
    eventually(lambda: stream._waiting)
    stream.cancel()
    thread.join(SOON)
    assert [type(error) for error in errors] == [yais.Cancelled]
    assert stream.status.result(SOON).code is yais.Code.CANCELLED
    assert peer.ended.wait(SOON)
    stream.cancel()


def test_leaving_the_block_cancels(peer, count):
    with count.open(b"1 hold") as stream:
        assert next(stream) == b"0"
    assert stream.status.result(SOON).code is yais.Code.CANCELLED
    assert peer.ended.wait(SOON)


async def test_a_cancelled_task_leaves_the_block(peer, count):
    reading = asyncio.Event()

    async def read() -> None:
        async with count.open(b"1 hold") as stream:
            async for _ in stream:
                reading.set()

    task = asyncio.create_task(read())
    await asyncio.wait_for(reading.wait(), SOON)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(peer.ended.wait, SOON)


def test_a_deadline(count):
    stream = count.open(b"1 hold", timeout=0.1)
    got = []
    with pytest.raises(yais.DeadlineExceeded):
        got.extend(iter(lambda: next(stream), None))
    assert stream.status.result(SOON).code is yais.Code.DEADLINE_EXCEEDED


async def test_waiting_for_the_status_does_not_cancel_it(peer, count):
    stream = count.open(b"1 hold")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stream.status, 0.01)
    assert not stream.status.cancelled()
    peer.gate.set()
    assert [reply async for reply in stream] == [b"0"]
    assert (await stream.status).ok


# Many requests.


def test_ping_pong(chat):
    with chat.open() as stream:
        for message in numbers(100):
            assert stream.write(message)
            assert next(stream) == message
        assert stream.done().result(SOON).ok
        assert stream.done() is stream.status
        assert not stream.write(b"late")
        assert list(stream) == []


async def test_ping_pong_with_await(chat):
    async with chat.open() as stream:
        for message in numbers(100):
            assert await stream.awrite(message)
            assert await anext(stream) == message
        stream.done()
        assert [reply async for reply in stream] == []
        assert (await stream.status).ok
        assert not await stream.awrite(b"late")


def test_ping_pong_with_callbacks(chat):
    got: list[bytes] = []

    def answer(message: bytes) -> None:
        got.append(message)
        if len(got) < 100:
            assert stream.write(str(len(got)).encode())
        else:
            stream.done()

    stream = chat.open(on_reply=answer)
    stream.write(b"0")
    assert stream.status.result(SOON).ok
    assert got == numbers(100)


def test_a_reader_and_a_writer_on_threads_of_their_own(chat):
    with chat.open() as stream:

        def write() -> None:
            for message in numbers(1000):
                assert stream.write(message)
            stream.done()

        writer = on_thread(write)
        assert list(stream) == numbers(1000)
        writer.join(SOON)


def test_one_reply_to_many_requests(channels):
    with ClientStreaming(channels, TOTAL, timeout=SOON).open(metadata={"a": "1"}) as stream:
        for _ in range(100):
            assert stream.write(b"abc")
        stream.done()
        assert list(stream) == [b"300"]
        assert stream.status.result(SOON).ok


def test_no_requests(chat):
    with chat.open() as stream:
        assert stream.done().result(SOON).ok
        assert list(stream) == []


def fill_up(stream: Any, channels: Any) -> int:
    """Write until there is no room; return how many messages were taken."""
    echo = ClientUnary(channels, ECHO, timeout=SOON)
    return fill(
        lambda number: stream.write(b"%d" % (number % 10) + bytes(50_000), timeout=0.01),
        lambda: echo.call(b"what came before has been seen"),
    )


def test_a_server_that_does_not_read_holds_the_writer(peer, channels):
    with ClientStreaming(channels, MUTE, timeout=SOON, max_unsent=2).open() as stream:
        taken = fill_up(stream, channels)
        assert taken >= 2
        assert not stream.over
        outcomes: list[bool] = []
        writer = on_thread(lambda: outcomes.append(stream.write(b"x")))
        eventually(lambda: stream._waiting)
        peer.gate.set()
        writer.join(SOON)
        assert outcomes == [True]
        stream.done()
        assert next(stream) == b"".join(b"%d" % (index % 10) for index in range(taken)) + b"x"


async def test_a_server_that_does_not_read_holds_the_task(peer, channels):
    async with ClientStreaming(channels, MUTE, timeout=SOON, max_unsent=2).open() as stream:
        await asyncio.to_thread(fill_up, stream, channels)
        writing = asyncio.create_task(stream.awrite(b"x"))
        assert not (await asyncio.wait({writing}, timeout=0.05))[0]
        peer.gate.set()
        assert await writing
        stream.done()
        assert (await anext(stream)).endswith(b"x")


def test_a_held_writer_learns_that_the_stream_is_over(channels):
    stream = ClientStreaming(channels, MUTE, timeout=SOON, max_unsent=1).open()
    fill_up(stream, channels)
    outcomes: list[bool] = []
    writer = on_thread(lambda: outcomes.append(stream.write(b"x")))
    eventually(lambda: stream._waiting)
    stream.cancel()
    writer.join(SOON)
    assert outcomes == [False]
    assert not stream.write(b"y")


def test_a_callback_never_waits_for_room(channels):
    mute = ClientStreaming(channels, MUTE, timeout=SOON, max_unsent=1).open()
    fill_up(mute, channels)
    outcomes = ClientUnary(channels, ECHO, timeout=SOON).submit(b"x", then=lambda _reply: mute.write(b"x"))
    assert outcomes.result(SOON) is False
    mute.cancel()


def test_a_corked_stream_keeps_what_is_written(peer, channels, chat):
    with chat.open(corked=True) as stream:
        for message in numbers(5):
            assert stream.write(message)
        ClientUnary(channels, ECHO, timeout=SOON).call(b"what came before has been seen")
        assert peer.calls == 1  # not the stream's headers, even
        stream.uncork()
        assert [next(stream) for _ in range(5)] == numbers(5)
        assert stream.write(b"at once")
        assert next(stream) == b"at once"
        stream.cork()
        assert stream.write(b"kept")
        stream.done()
        assert list(stream) == [b"kept"]


def test_a_corked_stream_that_is_full_lets_go(channels):
    with ClientStreaming(channels, CHAT, timeout=SOON, max_unsent=4).open(corked=True) as stream:
        for message in numbers(6):
            assert stream.write(message, timeout=SOON)
        assert [next(stream) for _ in range(4)] == numbers(4)
        stream.done()
        assert list(stream) == numbers(6)[4:]


@pytest.mark.parametrize("end", ["deadline", "cancel", "done"])
def test_a_corked_stream_that_sent_nothing_ends(chat, end):
    stream = chat.open(corked=True, timeout=0.05 if end == "deadline" else SOON)
    if end == "cancel":
        stream.cancel()
    if end == "done":
        stream.done()
    expected = {"deadline": yais.Code.DEADLINE_EXCEEDED, "cancel": yais.Code.CANCELLED, "done": yais.Code.OK}
    assert stream.status.result(SOON).code is expected[end]
    assert len(stream.initial_metadata.result(SOON)) == 0


def test_initial_metadata_comes_first(peer, count):
    stream = count.open(b"1 hold")
    assert "tail" not in stream.initial_metadata.result(SOON)
    peer.gate.set()
    assert list(stream) == [b"0"]


def test_streams_need_no_threads(peer, chat):
    """Most of them wait at the server, which has 8 threads."""
    streams = [chat.open() for _ in range(500)]
    assert client_threads() == 1
    for stream in streams:
        stream.write(b"x")
        stream.done()
    for stream in streams:
        assert next(stream) == b"x"
        assert stream.status.result(SOON).ok
    assert client_threads() == 1


def test_limits_of_at_least_one(channels):
    with pytest.raises(yais.InvalidArgument, match="got max_replies 0"):
        ClientServerStreaming(channels, COUNT, max_replies=0)
    with pytest.raises(yais.InvalidArgument, match="got max_unsent 0"):
        ClientStreaming(channels, CHAT, max_unsent=0)


def test_a_callback_must_not_wait_for_a_reply(peer, channels, count):
    stream = count.open(b"0 hold")
    outer = ClientUnary(channels, ECHO, timeout=SOON).submit(b"x", then=lambda _reply: next(stream))
    assert isinstance(outer.exception(SOON), yais.FailedPrecondition)
    stream.cancel()
