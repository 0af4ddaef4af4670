"""Streams of Triton's gRPC clients: decoupled models, sequences, ends, cancellation."""

from __future__ import annotations

import asyncio
import queue

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from gated_models import gates, row, tensors
from server_state import in_flight, pending
from serving_models import SOON, eventually, one_process
from triton_models import fill_triton, triton_server
from tritonclient.utils import InferenceServerException

FINAL = "triton_final_response"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with triton_server(fill_triton(tmp_path_factory.mktemp("models"))) as running:
        yield running
        assert not in_flight(running)


class Stream:
    """A stream of the synchronous client."""

    def __init__(self, server, **options):
        self.client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
        self.answers = queue.Queue()
        self.client.start_stream(lambda result, error: self.answers.put((result, error)), **options)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.client.stop_stream(cancel_requests=True)
        self.client.close()

    def repeat(self, *values, **options):
        array = np.array(values, np.int32)
        self.client.async_stream_infer("repeat_int32", tensors({"IN": array}), **options)

    def response(self):
        result, error = self.answers.get(timeout=SOON)
        assert error is None, error
        return result


@pytest.fixture
def stream(server):
    with Stream(server) as opened:
        yield opened


def told(result):
    """Return value, index and whether it is the last response; (None, None, True) for an empty end."""
    response = result.get_response()
    final = response.parameters[FINAL].bool_param
    if not response.outputs:
        return None, None, final
    return int(result.as_numpy("OUT")[0]), int(result.as_numpy("IDX")[0]), final


@pytest.mark.parametrize("values", [(), (5,), (5, 6, 7)])
def test_decoupled_with_an_empty_end(stream, values):
    stream.repeat(*values, request_id="a", enable_empty_final_response=True)
    answers = [stream.response() for _ in range(len(values) + 1)]
    assert [told(answer) for answer in answers] == [
        *((value, index, False) for index, value in enumerate(values)),
        (None, None, True),
    ]
    for answer in answers:
        response = answer.get_response()
        assert (response.id, response.model_name, response.model_version) == ("a", "repeat_int32", "1")


def test_decoupled_without_an_empty_end(stream):
    stream.repeat(request_id="none")
    stream.repeat(4, 5, request_id="two")
    assert [told(stream.response())[:2] for _ in range(2)] == [(4, 0), (5, 1)]
    stream.client.stop_stream()
    assert stream.answers.empty()


def test_a_decoupled_model_fails(stream):
    stream.repeat(1, -1, 2, request_id="x")
    assert told(stream.response()) == (1, 0, False)
    result, error = stream.answers.get(timeout=SOON)
    assert result is None
    assert "negative" in error.message()
    assert error.status() is None
    stream.repeat(3)
    assert told(stream.response())[:2] == (3, 0)


def test_outputs_and_parameters_of_a_decoupled_request(stream):
    outputs = [triton.InferRequestedOutput("IDX")]
    stream.repeat(8, outputs=outputs, parameters={"a": 1, "b": "x"}, priority=0, timeout=10_000_000)
    response = stream.response().get_response()
    assert [output.name for output in response.outputs] == ["IDX"]


def test_not_decoupled_responses_are_final(stream):
    for value in range(5):
        stream.client.async_stream_infer("part", tensors({"X": row(value)}), enable_empty_final_response=True)
    for value in range(5):
        result = stream.response()
        assert result.get_response().parameters[FINAL].bool_param is True
        assert result.as_numpy("Y").tolist() == [[value]]
    stream.client.stop_stream()
    assert stream.answers.empty()


def test_one_stream_at_a_time(stream):
    with pytest.raises(
        InferenceServerException, match="cannot start another stream with one already running"
    ):
        stream.client.start_stream(print)
    stream.client.stop_stream()
    with pytest.raises(InferenceServerException, match="stream not available"):
        stream.repeat(1)
    stream.client.start_stream(lambda result, error: stream.answers.put((result, error)))
    stream.repeat(1)
    assert told(stream.response())[:2] == (1, 0)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed(server, algorithm):
    with Stream(server, compression_algorithm=algorithm) as stream:
        array = np.zeros((1, 100_000), np.float32)
        stream.client.async_stream_infer("part", tensors({"X": array}))
        np.testing.assert_array_equal(stream.response().as_numpy("Y"), array)


@one_process
def test_stop_cancels(server, stream):
    gate = gates["gated"]
    with gate.shut():
        for value in range(3):
            stream.client.async_stream_infer("gated", tensors({"x": row(value)}))
        gate.wait_for(1)
        stream.client.stop_stream(cancel_requests=True)
        _, error = stream.answers.get(timeout=SOON)
        assert str(error) == "[StatusCode.CANCELLED] Locally cancelled by application!"
        eventually(lambda: not in_flight(server))
    eventually(lambda: not pending(server, "gated"))  # thrown away at its turn
    assert len(gate.batches) == 1


def test_large_tensors(stream):
    array = np.arange(5_000_000, dtype=np.float32)[None]  # 20 MB
    stream.client.async_stream_infer("part", tensors({"X": array}))
    np.testing.assert_array_equal(stream.response().as_numpy("Y"), array)


def test_simple_sequence_stream(server):
    """As simple_grpc_sequence_stream_infer_client: two sequences on one stream, ids as numbers or text."""
    values = [11, 7, 5, 3, 2, 0, 1]
    for model, ids in (
        ("simple_sequence", (1000, 1001)),
        ("simple_dyna_sequence", (1006, 1007)),
        ("simple_text_sequence", ("first", "second")),
    ):
        with Stream(server, stream_timeout=SOON) as stream:
            sent = 0
            for number, id_ in enumerate(ids):
                for count, value in enumerate(
                    [0, *values] if number == 0 else [100, *(-each for each in values)]
                ):
                    stream.client.async_stream_infer(
                        model,
                        tensors({"INPUT": np.array([[value]], np.int32)}),
                        request_id=f"{id_}_{count}",
                        sequence_id=id_,
                        sequence_start=count == 0,
                        sequence_end=count == len(values),
                    )
                    sent += 1
            sums = {id_: [] for id_ in map(str, ids)}
            for _ in range(sent):
                result = stream.response()
                sums[result.get_response().id.split("_")[0]].append(int(result.as_numpy("OUTPUT")[0, 0]))
        first, second = sums.values()
        added = list(ids) if "dyna" in model else [0, 0]
        running = np.cumsum([0, *values])
        assert first == [*running[:-1], running[-1] + added[0]]
        assert second == [*(100 - running[:-1]), 100 - running[-1] + added[1]]


def request(model, **arrays):
    return {"model_name": model, "inputs": tensors(arrays)}


async def test_aio_decoupled(server):
    async def requests():
        for values in ((1, 2), (), (3,)):
            yield {**request("repeat_int32", IN=np.array(values, np.int32)), "request_id": str(len(values))}
        yield request("nix", X=row(1))

    async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        results, errors = [], []
        async with asyncio.timeout(SOON):
            async for result, error in client.stream_infer(requests(), stream_timeout=SOON):
                (results if error is None else errors).append(result if error is None else error)
    by_request = {id_: [told(each)[0] for each in results if each.get_response().id == id_] for id_ in "12"}
    assert by_request == {"1": [3], "2": [1, 2]}
    (error,) = errors
    assert error.message() == "Request for unknown model: 'nix' is not found"


async def test_aio_cancel(server):
    gate = gates["gated"]
    waiting = asyncio.Event()

    async def requests():
        yield request("gated", x=row(1))
        await waiting.wait()  # the stream stays open

    async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        with gate.shut():
            responses = client.stream_infer(requests())
            first = asyncio.ensure_future(anext(responses))
            await asyncio.to_thread(gate.wait_for, 1)
            assert responses.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(first, SOON)
        await asyncio.to_thread(eventually, lambda: not in_flight(server))


async def test_aio_cancels_a_request(server):
    gate = gates["gated"]
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        with gate.shut():
            task = asyncio.ensure_future(client.infer("gated", tensors({"x": row(1)})))
            await asyncio.to_thread(gate.wait_for, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    await asyncio.to_thread(eventually, lambda: not in_flight(server))


def test_cancels_a_request(server):
    """As the documentation of async_infer says."""
    gate = gates["gated"]
    answers = queue.Queue()
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client, gate.shut():

        def answered(result, error):
            answers.put((result, error))

        running = client.async_infer("gated", tensors({"x": row(1)}), answered)
        gate.wait_for(1)
        queued = client.async_infer("gated", tensors({"x": row(2)}), answered)
        eventually(lambda: pending(server, "gated") == 1)
        for call in (running, queued):
            call.cancel()
            result, error = answers.get(timeout=SOON)
            assert result is None
            assert (error.status(), error.message()) == (
                "StatusCode.CANCELLED",
                "Locally cancelled by application!",
            )
        eventually(lambda: in_flight(server) == 1)  # what runs is not interrupted
    eventually(lambda: not in_flight(server))
    assert not pending(server, "gated")
    assert [batch[0] for batch in gate.batches] == [1]


async def test_client_timeouts(server):
    gate = gates["gated"]
    answers = queue.Queue()
    url = f"127.0.0.1:{server.port}"
    expected = ("StatusCode.DEADLINE_EXCEEDED", "Deadline Exceeded")
    with triton.InferenceServerClient(url) as client, gate.shut():
        with pytest.raises(InferenceServerException) as caught:
            client.infer("gated", tensors({"x": row(1)}), client_timeout=0.1)
        assert (caught.value.status(), caught.value.message()) == expected
        assert caught.value.debug_details()
        client.async_infer(
            "gated",
            tensors({"x": row(1)}),
            lambda result, error: answers.put((result, error)),
            client_timeout=0.1,
        )
        _, error = await asyncio.to_thread(answers.get, timeout=SOON)
        assert (error.status(), error.message()) == expected
        async with triton_aio.InferenceServerClient(url) as aio:
            with pytest.raises(InferenceServerException) as caught:
                await aio.infer("gated", tensors({"x": row(1)}), client_timeout=0.1)
            assert (caught.value.status(), caught.value.message()) == expected
    await asyncio.to_thread(eventually, lambda: not in_flight(server))
