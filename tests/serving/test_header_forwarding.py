"""Headers that become parameters of inference requests."""

from __future__ import annotations

import contextlib
import http.client
import json

import numpy as np
import pytest
from onnx_models import identity, write
from serving_models import SOON, Wire, infer_request, one_process, serving_models

from yais.inference.model import Model
from yais.rpc.metadata import Metadata
from yais.serving.header_forwarding import forwarded, header_pattern
from yais.serving.http.caller import HttpCaller
from yais.serving.http.options import HttpOptions

pytestmark = one_process


class Call:
    """A caller over gRPC."""

    protocol = "GRPC"

    def __init__(self, *pairs):
        self.metadata = Metadata(pairs)


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("x-.*", {"x-a": "1", "x-b": "2"}),
        ("X-.*", {"x-a": "1", "x-b": "2"}),
        ("x-a|other", {"x-a": "1", "other": "3"}),
        ("x", {}),
        ("(?-i)X-.*", {}),
        ("(?-i)x-.*", {"x-a": "1", "x-b": "2"}),
        (".*", {"x-a": "1", "x-b": "2", "other": "3"}),
    ],
)
def test_whole_names_are_matched(pattern, taken):
    call = Call(("x-a", "0"), ("x-a", "1"), ("x-b", "2"), ("other", "3"), ("x-c-bin", b"4"))
    assert forwarded(grpc=pattern, http="")(call) == taken


def test_each_protocol_has_its_pattern():
    forward = forwarded(grpc="a", http="b")
    assert forward(Call(("a", "1"), ("b", "2"))) == {"a": "1"}
    assert forward(HttpCaller([(b"a", b"1"), (b"b", b"2")])) == {"b": "2"}
    assert forwarded(grpc="", http="b")(Call(("b", "2"))) == {}
    assert forwarded(grpc="", http="") is None


def test_no_regular_expression():
    with pytest.raises(ValueError, match=r"got '\(', expected a regular expression: missing \)"):
        header_pattern("(")


def test_models_get_them(tmp_path, monkeypatch):
    write(tmp_path, "identity", identity("FP32"), "max_batch_size: 8")
    asked = []
    submit = Model.submit

    def submitted(model, request):
        asked.append(dict(request.parameters))
        return submit(model, request)

    monkeypatch.setattr(Model, "submit", submitted)
    with serving_models(tmp_path, header_forward_pattern="x-.*") as server, Wire(server.port) as wire:
        request = infer_request("identity", {"X": np.ones((1, 3), np.float32)})
        request.parameters["a"].int64_param = 1
        infer = wire.method("ModelInfer")
        infer(request, timeout=SOON)
        infer(request, timeout=SOON, metadata=[("x-who", "me"), ("y", "1")])
        infer(request, timeout=SOON)  # such parameters are shared, and were not changed
    assert asked[-3:] == [{"a": 1}, {"a": 1, "x-who": "me"}, {"a": 1}]


def test_models_get_those_of_http(tmp_path, monkeypatch):
    write(tmp_path, "identity", identity("FP32"), "max_batch_size: 8")
    asked = []
    submit = Model.submit

    def submitted(model, request):
        asked.append(dict(request.parameters))
        return submit(model, request)

    monkeypatch.setattr(Model, "submit", submitted)
    options = HttpOptions("127.0.0.1", 0, header_forward_pattern="X-.*")
    tensor = {"name": "X", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}
    body = json.dumps({"inputs": [tensor], "parameters": {"a": 1}})
    with serving_models(tmp_path, http=options, header_forward_pattern="y") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=SOON)
        with contextlib.closing(connection):
            connection.request("POST", "/v2/models/identity/infer", body, {"X-Who": "me", "Y": "1"})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            response.read()
    assert asked[-1] == {"a": 1, "x-who": "me"}
