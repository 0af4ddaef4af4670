"""ModelStreamInfer as Triton's clients use it."""

from __future__ import annotations

import asyncio
import queue

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from gated_models import row, tensors
from infer_streams import FINAL, fill_streams, gate
from onnx_models import EXAMPLES
from server_state import in_flight
from serving_models import SOON, eventually, one_process, serving_models


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving_models(EXAMPLES, fill_streams(tmp_path_factory.mktemp("streams"))) as running:
        yield running


class Streaming:
    """A client with a stream; its answers in the order of their callbacks."""

    def __init__(self, server, **options):
        self.client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
        self.answers = queue.Queue()
        self.client.start_stream(lambda result, error: self.answers.put((result, error)), **options)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.client.stop_stream(cancel_requests=True)
        self.client.close()

    def send(self, model, id_, array, **options):
        self.client.async_stream_infer(model, tensors({"x": array}), request_id=id_, **options)

    def result(self):
        result, error = self.answers.get(timeout=SOON)
        assert error is None, error
        return result

    def error(self):
        result, error = self.answers.get(timeout=SOON)
        assert result is None
        return error


@pytest.fixture
def streaming(server):
    with Streaming(server) as opened:
        yield opened


def flat(*values):
    return np.array(values, np.float32)


def test_results(streaming):
    gate("first")
    for number in range(10):
        streaming.send("first", str(number), row(number, 1))
    for number in range(10):
        result = streaming.result()
        response = result.get_response()
        assert (response.id, response.model_name) == (str(number), "first")
        assert response.parameters[FINAL].bool_param is True
        np.testing.assert_array_equal(result.as_numpy("y"), row(number, 1))


def test_an_error_has_a_message_only(streaming):
    streaming.send("nobody", "1", row(1))
    error = streaming.error()
    assert error.message() == "Request for unknown model: 'nobody' is not found"
    assert error.status() is None
    gate("first")
    streaming.send("first", "2", row(1))
    assert streaming.result().get_response().id == "2"


def test_errors_as_a_status(server):
    with Streaming(server, headers={"triton_grpc_error": "true"}) as streaming:
        streaming.send("nobody", "1", row(1))
        assert streaming.error().status() == "StatusCode.NOT_FOUND"
        eventually(lambda: not in_flight(server))


def test_stop_waits_for_what_is_outstanding(server):
    first = gate("first")
    with Streaming(server) as streaming:
        with first.shut():
            for number in range(5):
                streaming.send("first", str(number), row(number))
            first.wait_for(1)
        streaming.client.stop_stream()
        assert [streaming.result().get_response().id for _ in range(5)] == list("01234")
        assert streaming.answers.empty()


@one_process
def test_stop_may_cancel(server, streaming):
    first = gate("first")
    with first.shut():
        streaming.send("first", "1", row(1))
        first.wait_for(1)
        streaming.client.stop_stream(cancel_requests=True)
        assert "Locally cancelled by application!" in streaming.error().message()
        eventually(lambda: not in_flight(server))


def test_the_timeout_of_a_stream(server):
    with Streaming(server, stream_timeout=0.2) as streaming:
        assert streaming.error().status() == "StatusCode.DEADLINE_EXCEEDED"


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(server, algorithm):
    gate("first")
    with Streaming(server, compression_algorithm=algorithm) as streaming:
        streaming.send("first", "1", np.zeros((1, 1000), np.float32))
        assert streaming.result().as_numpy("y").shape == (1, 1000)


def test_a_decoupled_model(streaming):
    gate("repeat")
    streaming.send("repeat", "1", flat(5, 6), enable_empty_final_response=True)
    results = [streaming.result() for _ in range(3)]
    assert [result.as_numpy("y").tolist() for result in results[:2]] == [[5], [6]]
    assert results[2].as_numpy("y") is None
    said = [result.get_response().parameters[FINAL].bool_param for result in results]
    assert said == [False, False, True]


def test_sequences_that_take_turns(streaming):
    """As perf_analyzer does: several on one stream, each one request ahead of the other."""
    sums = dict.fromkeys((1, "two", 3), 0)
    for step in range(6):
        for number, id_ in enumerate(sums):
            options = {"sequence_id": id_, "sequence_start": step == 0, "sequence_end": step == 5}
            streaming.send("sum", f"{id_}/{step}", row(step + number), **options)
    for step in range(6):
        for number, id_ in enumerate(sums):
            sums[id_] += step + number
            result = streaming.result()
            assert result.get_response().id == f"{id_}/{step}"
            assert result.as_numpy("sum").item() == sums[id_]


def test_a_sequence_without_a_start(streaming):
    streaming.send("sum", "1", row(1), sequence_id=7)
    assert "must specify the START flag" in streaming.error().message()


def test_streams_side_by_side(server):
    """Each has an order of its own."""
    gate("second")
    with Streaming(server) as one, Streaming(server) as other:
        with gate("first").shut():
            one.send("first", "1", row(1))
            one.send("second", "2", row(2))
            other.send("second", "3", row(3))
            assert other.result().get_response().id == "3"
        assert [one.result().get_response().id for _ in range(2)] == ["1", "2"]


async def test_asyncio(server):
    gate("first")
    gate("repeat")

    async def requests():
        for number in range(5):
            yield {
                "model_name": "first",
                "inputs": tensors({"x": row(number)}),
                "request_id": str(number),
            }
        yield {"model_name": "nobody", "inputs": tensors({"x": row(1)})}
        yield {
            "model_name": "repeat",
            "inputs": tensors({"x": flat(8, 9)}),
        }

    once, several = [], []
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        async with asyncio.timeout(SOON):
            async for result, error in client.stream_infer(requests()):
                if error is not None:
                    once.append(error.message())
                elif result.get_response().model_name == "first":
                    once.append(result.as_numpy("y").item())
                else:
                    several.append(result.as_numpy("y").item())
    assert once == [0, 1, 2, 3, 4, "Request for unknown model: 'nobody' is not found"]
    assert several == [8, 9]


@one_process
async def test_asyncio_cancel(server):
    first = gate("first")

    async def requests():
        yield {"model_name": "first", "inputs": tensors({"x": row(1)})}
        await asyncio.Event().wait()

    async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        with first.shut():
            answers = client.stream_infer(requests())

            async def read():
                async for _ in answers:
                    pass

            reading = asyncio.create_task(read())
            await asyncio.to_thread(first.wait_for, 1)
            answers.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(reading, SOON)
            await asyncio.to_thread(eventually, lambda: not in_flight(server))
