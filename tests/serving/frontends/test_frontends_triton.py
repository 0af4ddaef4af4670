"""Every method of Triton's four clients, streams and HTTP, against frontend processes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from frontend_servers import frontends_serving
from http_calls import Http
from test_triton_every_method import client, test_every_method  # noqa: F401
from test_triton_streams import (  # noqa: F401
    stream,
    test_a_decoupled_model_fails,
    test_aio_cancel,
    test_aio_cancels_a_request,
    test_cancels_a_request,
    test_client_timeouts,
    test_compressed,
    test_decoupled_with_an_empty_end,
    test_decoupled_without_an_empty_end,
    test_large_tensors,
    test_not_decoupled_responses_are_final,
    test_one_stream_at_a_time,
    test_outputs_and_parameters_of_a_decoupled_request,
    test_simple_sequence_stream,
)
from triton_models import fill_triton

from yais.repository.repository import ControlMode
from yais.serving.frontends.supervisor import Supervisor
from yais.serving.trace_settings import TraceOptions


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """A server whose models, shared memory, traces and log clients may change."""
    with frontends_serving(
        fill_triton(tmp_path_factory.mktemp("models")),
        control=ControlMode.EXPLICIT,
        load=("*",),
        allow_client_shm=True,
        metrics_port=0,
        trace=TraceOptions(file=str(tmp_path_factory.mktemp("traces") / "trace.json")),
    ) as running:
        yield running


def test_generate_stream_of_a_decoupled_model(server: Supervisor) -> None:
    with Http(server.http_port or 0) as http:
        reply = http.call("POST", "/v2/models/repeat_int32/generate_stream", '{"IN": [4, 5, 6]}')
    assert reply.status == 200, reply.body
    events = [
        json.loads(event.removeprefix("data: ")) for event in reply.body.decode().split("\n\n") if event
    ]
    assert [event["OUT"] for event in events] == [4, 5, 6]
    assert [event["IDX"] for event in events] == [0, 1, 2]


def test_generate_asks_for_a_signature_that_is_not_known(server: Supervisor) -> None:
    with Http(server.http_port or 0) as http:
        reply = http.call("POST", "/v2/models/nobody/generate", "{}")
        assert reply.error == (404, "Request for unknown model: 'nobody' is not found")
        reply = http.call("POST", "/v2/models/nobody/versions/x/generate", "{}")
        assert reply.status == 400


def test_a_bare_tensor(server: Supervisor) -> None:
    contents = np.arange(5, dtype=np.float32).tobytes()
    with Http(server.http_port or 0) as http:
        reply = http.call(
            "POST",
            "/v2/models/identity_fp32/infer",
            contents,
            {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": "0"},
        )
    assert reply.status == 200, reply.body
    assert reply.tail == contents


def test_a_model_that_is_loaded_is_known_to_all_frontends(server: Supervisor) -> None:
    """Before the answer says so, and one that is unloaded is not."""
    for change, status in (("unload", 400), ("load", 200)):
        with Http(server.http_port or 0) as http:
            assert http.call("POST", f"/v2/repository/models/repeat_int32/{change}").status == 200
        for _ in range(8):  # connections, of both
            with Http(server.http_port or 0) as http:
                reply = http.call("POST", "/v2/models/repeat_int32/generate_stream", '{"IN": [1]}')
                assert (reply.status == 200) is (status == 200), reply.body


def test_log_settings_are_those_of_all_frontends(server: Supervisor) -> None:
    with Http(server.http_port or 0) as http:
        assert http.call("POST", "/v2/logging", '{"log_verbose_level": 1}').json["log_verbose_level"] == 1
    for _ in range(8):
        with Http(server.http_port or 0) as http:
            assert http.call("GET", "/v2/logging").json["log_verbose_level"] == 1
