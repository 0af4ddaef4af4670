"""The OpenAPI description: complete, valid, and true of a running server."""

from __future__ import annotations

import json
import re

import pytest
from http_models import fill_routed
from http_routed import routed
from hypothesis import HealthCheck, Phase, given, settings
from onnx_models import EXAMPLES
from prometheus_client import CollectorRegistry

from yais.serving.http.openapi import description
from yais.serving.http.routes import routes

schemathesis = pytest.importorskip("schemathesis")

INFER = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")

# What Triton answers with 5xx although it is the request that asks for what cannot be.
PRESCRIBED = re.compile(
    "expected none: they are one|is not at ready state|can not be updated through network protocol"
    "|failed to poll from model repository|Unable to open shared memory region|file not found"
)


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    with routed(EXAMPLES, fill_routed(tmp_path_factory.mktemp("models"))) as calls:
        yield calls


def described():
    """Return what is described: methods by path."""
    return {path: set(item) - {"parameters"} for path, item in description()["paths"].items()}


def test_every_route_is_described_and_nothing_else():
    served = {
        route.path: {method.lower() for method in route.methods} - {"head"}
        for route in routes(None, CollectorRegistry())
    }
    assert served | {path: {"post"} for path in INFER} == described()


def test_the_description_is_valid():
    schemathesis.openapi.from_dict(json.loads(json.dumps(description()))).validate()


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


OPERATIONS = [(path, method) for path, methods in described().items() for method in sorted(methods)]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_answers_are_as_described_whatever_is_asked(http, path, method):
    checks = [
        schemathesis.checks.status_code_conformance,
        schemathesis.checks.content_type_conformance,
        schemathesis.checks.response_schema_conformance,
    ]
    schema = schemathesis.openapi.from_dict(json.loads(json.dumps(description())))
    operation = schema[path][method.upper()]

    @settings(
        max_examples=10,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case):
        response = case.call(base_url=f"http://127.0.0.1:{http.port}")
        case.validate_response(response, checks=checks)
        if response.status_code >= 500:
            assert PRESCRIBED.search(response.json()["error"])

    ask()
