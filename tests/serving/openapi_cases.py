"""What the OpenAPI description allows to be asked, and whether a running server answers as it says."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from yais.serving.http.openapi import description

schemathesis = pytest.importorskip("schemathesis")

# What Triton answers with 5xx although it is the request that asks for what cannot be.
PRESCRIBED = re.compile(
    "expected none: they are one|is not at ready state|can not be updated through network protocol"
    "|failed to poll from model repository|Unable to open shared memory region|file not found"
)


def described() -> dict[str, set[str]]:
    """Return what is described: methods by path."""
    return {path: set(item) - {"parameters"} for path, item in description()["paths"].items()}


OPERATIONS = [(path, method) for path, methods in described().items() for method in sorted(methods)]


@cache
def described_schema() -> Any:
    """Return the description as schemathesis knows it."""
    return schemathesis.openapi.from_dict(json.loads(json.dumps(description())))


def ask_as_described(port: int, path: str, method: str, *, examples: int, of: int = 0) -> None:
    """Ask an operation for what it may be asked for; raise AssertionError for another answer than described.

    Parameters
    ----------
    of
        Which examples: the same number gives the same.
    """
    checks = [
        schemathesis.checks.status_code_conformance,
        schemathesis.checks.content_type_conformance,
        schemathesis.checks.response_schema_conformance,
    ]

    @seed(of)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=described_schema()[path][method.upper()].as_strategy())
    def ask(case: Any) -> None:
        response = case.call(base_url=f"http://127.0.0.1:{port}")
        case.validate_response(response, checks=checks)
        if response.status_code >= 500:
            assert PRESCRIBED.search(response.json()["error"])

    ask()
