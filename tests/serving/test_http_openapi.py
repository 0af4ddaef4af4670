"""The OpenAPI description: complete, valid, and true of a running server."""

from __future__ import annotations

import json
import re

import pytest
from http_models import fill_routed
from http_routed import routed
from onnx_models import EXAMPLES
from openapi_cases import OPERATIONS, ask_as_described, described, described_schema

from yais.serving.http.openapi import description
from yais.serving.http.routes import routes

INFER = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    with routed(EXAMPLES, fill_routed(tmp_path_factory.mktemp("models"))) as calls:
        yield calls


def test_every_route_is_described_and_nothing_else():
    served = {
        route.path: {method.lower() for method in route.methods} - {"head"} for route in routes(None, str)
    }
    assert served | {path: {"post"} for path in INFER} == described()


def test_the_description_is_valid():
    described_schema().validate()


def test_it_is_served(http):
    assert http.get("/openapi.json") == json.loads(json.dumps(description()))


def test_ids_are_unique_and_references_lead_somewhere():
    text = json.dumps(description())
    ids = re.findall(r'"operationId": "([^"]+)"', text)
    assert len(ids) == len(set(ids)) == sum(map(len, described().values()))
    for reference in re.findall(r'"\$ref": "#/([^"]+)"', text):
        found = description()
        for part in reference.split("/"):
            found = found[part]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_answers_are_as_described_whatever_is_asked(http, path, method):
    ask_as_described(http.port, path, method, examples=10)
