"""Traces from end to end: from a client's span to the computation, as a collector receives them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import tritonclient.grpc as triton
from gated_models import TENSORS, row, tensors, write_python
from opentelemetry import propagate
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from otlp_collector import Collector, Received, collecting, tree
from serving_models import SOON
from yais_command import Serving, run_yais_process

import yais
from yais.serving.trace_export import collector_provider

DOUBLE = """
class Model:
    def execute(self, inputs):
        if inputs["x"].min() < 0:
            raise ValueError("negative")
        return {"y": inputs["x"] * 2}
"""

TRACED = ("--trace-config", "mode=opentelemetry", "--trace-config", "level=TIMESTAMPS")

CALL = ("InferRequest", [("double", [("queue", []), ("batch", [("compute", [])])])])


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    write_python(directory, "double", DOUBLE, TENSORS + "max_batch_size: 4 dynamic_batching {}")
    return directory


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@contextmanager
def client_span(collector: Collector, name: str) -> Iterator[dict[str, str]]:
    """Be a client that exports a span of its own; yield the headers that tell a server of it."""
    provider = TracerProvider(resource=Resource.create({"service.name": "client"}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"http://127.0.0.1:{collector.http}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    try:
        with provider.get_tracer("client").start_as_current_span(name):
            headers: dict[str, str] = {}
            propagate.inject(headers)
            yield headers
    finally:
        provider.shutdown()


def ask(port: int, value: float, **options: Any) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        client.infer("double", tensors({"x": row(value)}), client_timeout=SOON, **options)


@contextmanager
def served(repository: Path, *arguments: str, **env: str) -> Iterator[Serving]:
    """Run `yais serve` with traces, and an environment of its own, while the block lasts."""
    ports = ("--grpc-address=127.0.0.1", "--grpc-port=0", "--allow-http=0", "--allow-metrics=0")
    serving = Serving("--model-repository", repository, *ports, "--log-info=0", *TRACED, *arguments, env=env)
    try:
        yield serving
    finally:
        if serving.process.poll() is None:
            serving.end(signal.SIGTERM)


def check_tree(spans: list[Received]) -> None:
    assert tree(spans) == [("ask", [CALL])]
    assert len({each.span.trace_id for each in spans}) == 1
    by_id = {each.span.span_id: each.span for each in spans}
    for each in by_id.values():
        assert each.start_time_unix_nano <= each.end_time_unix_nano
        if each.parent_span_id:
            within = by_id[each.parent_span_id]
            assert within.start_time_unix_nano <= each.start_time_unix_nano, (within.name, each.name)
            # A server is not done when its answer has arrived.
            ended = within.name == "ask" or each.end_time_unix_nano <= within.end_time_unix_nano
            assert ended, (within.name, each.name)


@pytest.mark.parametrize("frontends", ["0", "1"])
def test_over_http_as_options_say(repository: Path, collector: Collector, frontends: str) -> None:
    url = f"opentelemetry,url=http://127.0.0.1:{collector.http}/v1/traces"
    options = ("--trace-config", url, "--trace-config", "opentelemetry,resource=service.name=doubling")
    env = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test,service.name=other"}
    options = (*options, "--trace-config", "rate=0", "--frontends", frontends)
    with served(repository, *options, **env) as server:
        with client_span(collector, "ask") as headers:
            ask(server.port, 3.0, headers=headers, request_id="mine")
        ask(server.port, 4.0)  # nobody traces it
        assert server.end(signal.SIGTERM)[0] == 0  # and exports what is left
    spans = collector.spans(6)
    check_tree(spans)
    named = {each.name: each for each in spans}
    assert named["ask"].resource["service.name"] == "client"
    of_server = named["InferRequest"].resource
    assert of_server["service.name"] == "doubling"
    assert of_server["deployment.environment"] == "test"
    assert named["InferRequest"].span.kind == Span.SPAN_KIND_SERVER
    assert named["double"].attributes["triton.model_name"] == "double"
    assert named["double"].attributes["triton.model_version"] == 1
    assert named["double"].attributes["triton.request_id"] == "mine"
    assert named["batch"].attributes == {"yais.batch_size": 1}
    assert [event.name for event in named["compute"].span.events] == [
        "COMPUTE_START",
        "COMPUTE_INPUT_END",
        "COMPUTE_OUTPUT_START",
        "COMPUTE_END",
    ]
    assert named["InferRequest"].span.status.code == Status.STATUS_CODE_UNSET


@pytest.mark.parametrize("prefix", ["OTEL_EXPORTER_OTLP", "OTEL_EXPORTER_OTLP_TRACES"])
def test_over_grpc_as_the_environment_says(repository: Path, collector: Collector, prefix: str) -> None:
    env = {
        f"{prefix}_PROTOCOL": "grpc",
        f"{prefix}_ENDPOINT": f"http://127.0.0.1:{collector.grpc}",
        f"{prefix}_HEADERS": "x-tenant=a",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_SERVICE_NAME": "doubling",
    }
    with served(repository, "--trace-config", "rate=1", **env) as server:
        with client_span(collector, "ask") as headers:
            ask(server.port, 3.0, headers=headers)
        spans = collector.spans(6)  # while it runs
        check_tree(spans)
        assert {each.resource["service.name"] for each in spans} == {"client", "doubling"}
        assert collector.metadata[0]["x-tenant"] == "a"
        assert server.end(signal.SIGTERM)[0] == 0


def test_over_http_as_the_environment_says(repository: Path, collector: Collector) -> None:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.http}",  # to which /v1/traces is added
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with served(repository, "--trace-config", "rate=1", **env) as server:
        with pytest.raises(triton.InferenceServerException, match="negative"):
            ask(server.port, -1.0)
        spans = collector.spans(5)
        assert server.end(signal.SIGTERM)[0] == 0
    assert tree(spans) == [CALL]
    failed = {each.name: each.span.status for each in spans if each.span.status.code}
    assert {name: status.code for name, status in failed.items()} == {
        "InferRequest": Status.STATUS_CODE_ERROR,
        "double": Status.STATUS_CODE_ERROR,
    }
    assert "negative" in failed["double"].message
    assert spans[0].resource["service.name"] == "triton-inference-server"


def test_a_protocol_that_there_is_not(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
    ended = run_yais_process("serve", "--model-repository", repository, *TRACED)
    assert ended.returncode == 1
    assert "got OTEL_EXPORTER_OTLP_PROTOCOL='http/json', expected http/protobuf or grpc" in ended.stderr


class Echo(yais.Context[bytes, bytes, yais.Resources]):
    def execute(self, request: bytes) -> bytes:
        return request


def test_a_service_of_ones_own(collector: Collector) -> None:
    """With the interceptor, and the same exporter."""
    provider = collector_provider({"url": f"127.0.0.1:{collector.http}/v1/traces"})
    service = yais.Service("test.Echo")
    service.register("Say", Echo, contexts=1, deserialize=bytes, serialize=bytes)
    server = yais.Server("127.0.0.1:0", interceptors=[yais.Tracing(provider)])
    server.add(service)
    with (
        server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        client_span(collector, "say") as headers,
    ):
        say = channel.unary_unary("/test.Echo/Say")
        assert say(b"a", timeout=SOON, metadata=list(headers.items())) == b"a"
    provider.shutdown()
    spans = collector.spans(2)
    assert tree(spans) == [("say", [("test.Echo/Say", [])])]
    call = spans[1]
    assert call.span.kind == Span.SPAN_KIND_SERVER
    assert call.attributes["rpc.service"] == "test.Echo"
    assert call.attributes["rpc.grpc.status_code"] == 0
