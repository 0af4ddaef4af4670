"""Traces of requests over HTTP: when they were received, and when their answers were sent."""

from __future__ import annotations

import http.client
import json

from serving_models import SOON, serving_models
from traced_models import fill_traced, read_traces

from yais.serving.http.options import HttpOptions
from yais.serving.trace_settings import TraceOptions

INFER = json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [2]}]})

ASKED = [
    ("plain/infer", INFER, 200),
    ("failing/infer", INFER, 500),
    ("plain/generate", '{"x": 2}', 200),
    ("counting/generate_stream", '{"x": 2}', 200),
]


def test_every_way_in(tmp_path, tmp_path_factory):
    repository, path = fill_traced(tmp_path_factory.mktemp("models")), tmp_path / "trace.json"
    trace = TraceOptions(level=("TIMESTAMPS",), rate=1, file=str(path))
    with serving_models(
        repository, trace=trace, cache_size=1 << 20, http=HttpOptions("127.0.0.1", 0)
    ) as server:
        client = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=SOON)
        for where, body, status in ASKED:
            client.request("POST", f"/v2/models/{where}", body)
            answer = client.getresponse()
            answer.read()
            assert answer.status == status
        client.close()
    traces = read_traces(path)
    assert [trace.model for trace in traces] == ["plain", "failing", "plain", "counting"]
    for traced in traces:
        assert traced.names[:3] == ["HTTP_RECV_START", "HTTP_RECV_END", "REQUEST_START"]
        assert traced.names[-3:] == ["REQUEST_END", "HTTP_SEND_START", "HTTP_SEND_END"]
