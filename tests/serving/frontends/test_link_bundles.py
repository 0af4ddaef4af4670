"""Bundles: requests that came in together are one request to their model, and nobody can tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from link_pair import SOON, Call, Queue, dispatching, linked, message, response, wait_until
from onnx_models import EXAMPLES, identity, table, write
from serving_models import one_process, serving_models

from yais.core.future import Future
from yais.core.tensor import DataType, TensorSpec
from yais.errors import Internal, InvalidArgument, NotFound, Unavailable
from yais.inference.request import InferResponse
from yais.protocol.infer_request import InferMessage, InputHeader, Parameter
from yais.serving.frontends.link_bundles import Bundles
from yais.serving.inference import infer
from yais.serving.server import InferenceServer

BATCHING = "max_batch_size: 8 dynamic_batching { %s }"

SAYS_NOTHING = Parameter("triton_enable_empty_final_response", True)

OTHERS = {
    "without": "max_batch_size: 8",
    "preferring": BATCHING % "preferred_batch_size: [ 4 ]",
    "with_levels": BATCHING % "priority_levels: 2 default_priority_level: 1",
    "with_limits": BATCHING % "default_queue_policy { max_queue_size: 4 }",
    "cached": (BATCHING % "") + " response_cache { enable: true }",
    "sequences": "max_batch_size: 8 sequence_batching { }",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceServer]:
    repository = tmp_path_factory.mktemp("bundled")
    write(repository, "identity", identity("FP32"), BATCHING % "")
    write(repository, "text", identity("BYTES"), BATCHING % "")
    write(repository, "table", table([10, 11, 12, 13]), BATCHING % "")
    write(repository, "eight", identity("FP32"), BATCHING % "preferred_batch_size: [ 8 ]")
    for name, config in OTHERS.items():
        write(repository, name, identity("FP32"), config)
    with serving_models(EXAMPLES, repository, cache_size=1_000_000) as running:
        yield running


@contextmanager
def bundling(server: InferenceServer) -> Iterator[tuple[Any, Any, Queue]]:
    """Link a frontend to a server, on a thread of which the queue runs empty when it is told to."""
    resources = server._resources
    with (
        linked(partial(infer, resources), bundles=Bundles(resources)) as (link, links),
        dispatching() as queue,
    ):
        yield link, links, queue


def header(datatype: DataType, shape: tuple[int, ...], name: str = "X") -> InputHeader:
    return InputHeader(TensorSpec(name, datatype, shape), {})


def request(model: str, headers: Sequence[InputHeader], *data: Any, **fields: Any) -> InferMessage:
    return InferMessage(model, inputs=headers, data=list(data), **fields)


def ask(link: Any, *what: Any, **fields: Any) -> Future[InferResponse]:
    future: Future[InferResponse] = link.infer(request(*what, **fields), Call())
    return future


def known(link: Any, queue: Queue, sent: InferMessage) -> None:
    """Let the engine process say how requests of a form may be bundled: the first is alone."""
    future = link.infer(sent, Call())
    queue.drain()
    future.exception(SOON)


def counts(server: InferenceServer, model: str) -> Any:
    return server._resources.find_model(model).counts()


@one_process
def test_requests_that_came_together_run_together(server: InferenceServer) -> None:
    headers = [header(DataType.INT32, (1, 16), f"INPUT{index}") for index in range(2)]
    one, two = np.arange(16, dtype=np.int32), np.ones(16, np.int32)
    with bundling(server) as (link, links, queue):
        known(link, queue, request("simple", headers, one.tobytes(), two.tobytes()))
        before = counts(server, "simple")
        alone = ask(link, "simple", headers, one.tobytes(), two.tobytes())
        queue.drain()
        form = alone.result(SOON).form
        futures = [
            ask(link, "simple", headers, (one * n).tobytes(), two.tobytes(), id=str(n)) for n in range(100)
        ]
        queue.drain()
        for n, future in enumerate(futures):
            answer = future.result(SOON)
            assert answer.id == str(n) and answer.form is form
            assert bytes(answer.data[0]) == (one * n + two).tobytes()
            assert bytes(answer.data[1]) == (one * n - two).tobytes()
        assert link.statistics().bundles == links.statistics()[0].bundles == 2  # of 64 and 36
        after = counts(server, "simple")
        assert after.success.count - before.success.count == 101
        assert after.inferences - before.inferences == 101
        assert after.executions - before.executions == 3
        assert sum(after.request_seconds.counts) - sum(before.request_seconds.counts) == 101
        assert link.pending == links.pending == 0


@pytest.mark.parametrize("size", [16, 2000, 100_000])
@one_process
def test_contents_of_any_size_are_put_together(server: InferenceServer, size: int) -> None:
    headers = [header(DataType.FP32, (2, size))]
    data = [np.full(2 * size, n, np.float32) for n in range(11)]
    with bundling(server) as (link, links, queue):
        known(link, queue, request("identity", headers, data[0].tobytes()))
        futures = [ask(link, "identity", headers, memoryview(each.tobytes())) for each in data]
        queue.drain()
        for each, future in zip(data, futures, strict=True):
            answer = future.result(SOON)
            assert answer.form.outputs[0].shape == (2, size)
            assert bytes(answer.data[0]) == each.tobytes()
        assert links.statistics()[0].bundles == 3  # four, four and three requests of two items


@one_process
def test_a_request_that_the_model_cannot_take_fails_alone(server: InferenceServer) -> None:
    headers = [header(DataType.INT64, (1, 1), "index")]
    with bundling(server) as (link, links, queue):
        known(link, queue, request("table", headers, np.int64(0).tobytes()))
        before = counts(server, "table")
        futures = [ask(link, "table", headers, np.int64(n).tobytes(), id=f"id {n}") for n in range(6)]
        short = ask(link, "table", headers, b"1234", id="short")
        queue.drain()
        for n, future in enumerate(futures[:4]):
            assert np.frombuffer(future.result(SOON).data[0], np.int64) == 10 + n
            assert future.result(0).id == f"id {n}"
        for future in futures[4:]:
            assert isinstance(future.exception(SOON), Internal)
        with pytest.raises(InvalidArgument, match=r"\[request id: short\] input byte size mismatch"):
            short.result(SOON)
        assert links.statistics()[0].bundles == 1
        after = counts(server, "table")
        assert after.success.count - before.success.count == 4
        assert after.fail.count - before.fail.count == 3  # the bundle is not counted
        wait_until(lambda: not links.pending)


@one_process
def test_what_cannot_be_bundled_is_not(server: InferenceServer) -> None:
    limit = Bundles(server._resources).limit
    assert (limit("identity", ""), limit("identity", "1"), limit("eight", ""), limit("simple", "")) == (
        8,
        8,
        8,
        64,
    )
    assert {name: limit(name, "") for name in OTHERS} == dict.fromkeys(OTHERS, 0)
    assert limit("unknown", "") == limit("identity", "7") == limit("identity", "no number") == 0


@pytest.mark.parametrize(
    ("model", "shape", "datatype", "data", "said", "bundles"),
    [
        ("identity", (1, 4), DataType.FP32, bytes(16), (), 1),
        (
            "identity",
            (1, 4),
            DataType.FP32,
            bytes(16),
            (Parameter("triton_enable_empty_final_response", True),),
            1,
        ),
        ("identity", (1, 4), DataType.FP32, bytes(16), (Parameter("timeout", 5_000_000),), 0),
        ("identity", (5, 4), DataType.FP32, bytes(80), (), 0),
        ("without", (1, 4), DataType.FP32, bytes(16), (), 0),
        ("text", (1, 1), DataType.BYTES, np.array([b"x"], np.object_), (), 0),
    ],
    ids=["plain", "says nothing", "parameters", "too large for two", "no batcher", "bytes"],
)
@one_process
def test_only_what_is_nothing_but_its_inputs_is_bundled(
    server: InferenceServer,
    model: str,
    shape: tuple[int, ...],
    datatype: DataType,
    data: Any,
    said: Sequence[Parameter],
    bundles: int,
) -> None:
    headers = [header(datatype, shape)]
    with bundling(server) as (link, links, queue):
        known(link, queue, request(model, headers, data, parameters=said))
        futures = [ask(link, model, headers, data, parameters=said) for _ in range(3)]
        queue.drain()
        for future in futures:
            (got,) = future.result(SOON).data
            assert list(got) == list(data) if datatype is DataType.BYTES else bytes(got) == data
        assert links.statistics()[0].bundles == bundles
        assert links.statistics()[0].requests == 4


@one_process
def test_headers_keep_requests_apart(server: InferenceServer) -> None:
    headers = [header(DataType.FP32, (1, 4))]
    with bundling(server) as (link, links, queue):
        link.headers = True
        known(link, queue, request("identity", headers, bytes(16)))
        futures = [
            link.infer(request("identity", headers, bytes(16)), Call(headers=(("a", "b"),))) for _ in range(3)
        ]
        queue.drain()
        for future in futures:
            assert future.result(SOON)
        assert links.statistics()[0].bundles == 0


@one_process
def test_requests_of_several_forms_are_sorted_out(server: InferenceServer) -> None:
    headers = {size: [header(DataType.FP32, (1, size))] for size in (3, 4, 5)}
    sent = [(size, np.full(size, n, np.float32)) for n, size in enumerate([3, 4, 5] * 9)]
    with bundling(server) as (link, links, queue):
        for size, inputs in headers.items():
            known(link, queue, request("identity", inputs, bytes(4 * size)))
        futures = [ask(link, "identity", headers[size], data.tobytes()) for size, data in sent]
        queue.drain()
        for (_, data), future in zip(sent, futures, strict=True):
            assert bytes(future.result(SOON).data[0]) == data.tobytes()
        assert links.statistics()[0].bundles == 3  # of eight each; the ninth of each is alone


class Changing:
    """Bundles of a server whose models change."""

    def __init__(self) -> None:
        self.most = 8
        self.error: Exception | None = None
        self.submitted = 0

    def limit(self, model: str, version: str) -> int:
        return self.most

    def submit(
        self, message: InferMessage, caller: Any, moments: Sequence[tuple[int, int]]
    ) -> Future[InferResponse]:
        self.submitted += 1
        future: Future[InferResponse] = Future()
        if self.error is None:
            future.set_result(response(bytes(message.data[0])))  # type: ignore[arg-type]
        else:
            future.set_exception(self.error)
        return future


def _one_by_one(request: InferMessage, caller: Any, **_: Any) -> Future[InferResponse]:
    future: Future[InferResponse] = Future()
    if request.id == "bad":
        raise NotFound("nothing for this one")
    future.set_result(response(bytes(request.data[0]), request.id))  # type: ignore[arg-type]
    return future


@pytest.mark.parametrize("how", ["the limit is lower", "the bundle is refused", "cancelled"])
def test_a_bundle_that_is_refused_is_asked_for_one_by_one(how: str) -> None:
    bundles = Changing()
    with linked(_one_by_one, bundles=bundles) as (link, links), dispatching() as queue:
        known(link, queue, message())
        if how == "the limit is lower":
            bundles.most = 0
        else:
            bundles.error = Unavailable("full")
        futures = [
            link.infer(message(bytes([n]) * 16, id_="bad" if n == 2 else str(n)), Call()) for n in range(4)
        ]
        queue.drain()
        if how == "cancelled":
            futures[1].cancel()
        for n, future in enumerate(futures):
            if n == 2:
                with pytest.raises(NotFound, match="nothing for this one"):
                    future.result(SOON)
            elif not future.cancelled():
                assert bytes(future.result(SOON).data[0]) == bytes([n]) * 16
                assert future.result(0).id == str(n)
        assert bundles.submitted == (how != "the limit is lower")
        wait_until(lambda: not links.pending and not link.pending)
        if how == "the limit is lower":  # which the frontend knows by now
            wait_until(lambda: not link._session._writer.limits[1])


def test_a_push_tells_how_requests_may_be_bundled_now() -> None:
    bundles = Changing()
    with linked(_one_by_one, bundles=bundles) as (link, links):
        link.infer(message(), Call()).result(SOON)
        wait_until(lambda: link._session._writer.limits == {1: 8})
        bundles.most = 3
        links.push("models", "changed")
        wait_until(lambda: link._session._writer.limits == {1: 3})


@one_process
def test_a_member_that_is_cancelled_takes_nobody_along(server: InferenceServer, tmp_path: Path) -> None:
    headers = [header(DataType.FP32, (1, 4))]
    with bundling(server) as (link, links, queue):
        known(link, queue, request("identity", headers, bytes(16)))
        futures = [ask(link, "identity", headers, bytes([n]) * 16) for n in range(6)]
        queue.drain()
        futures[0].cancel()
        for n, future in enumerate(futures[1:], 1):
            assert bytes(future.result(SOON).data[0]) == bytes([n]) * 16
        wait_until(lambda: not links.pending and not link.pending)
