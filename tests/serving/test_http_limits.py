"""What a body may have, and no more."""

from __future__ import annotations

import json

import pytest
from http_calls import Http, exchange, given, serving_http

LIMIT = 10_000
TOO_LARGE = (
    400,
    (
        f"request body exceeds the maximum allowed input size of {LIMIT} bytes. Use --http-max-input-size to "
        "increase the limit."
    ),
)
INFER = "/v2/models/identity_fp32/infer"


@pytest.fixture(scope="module")
def limited(server):
    with serving_http(server, max_input_bytes=LIMIT) as running, Http(running.port) as calls:
        calls.port = running.port
        yield calls


def body(size):
    """Return a request of so many bytes."""
    text = json.dumps({"inputs": [given("X", "FP32", [1, 1], [2.5])]}).encode()
    return text + b" " * (size - len(text))


@pytest.mark.parametrize("size", [100, LIMIT])
def test_a_body_may_be_as_large_as_the_limit(limited, size):
    assert limited.infer("identity_fp32", body(size)).status == 200
    assert limited.call("POST", INFER, iter([body(size)])).status == 200  # in chunks


@pytest.mark.parametrize("size", [LIMIT + 1, 50 * LIMIT])
def test_a_body_may_not_be_larger(limited, size):
    assert limited.infer("identity_fp32", body(size)).error == TOO_LARGE
    assert limited.call("POST", INFER, iter([body(size)])).error == TOO_LARGE
    assert limited.infer("identity_fp32", body(100)).status == 200


def test_binary_tensors_count(limited):
    inputs = [given("X", "FP32", [1, 5000], binary_data_size=20_000)]
    assert limited.infer("identity_fp32", {"inputs": inputs}, bytes(20_000)).error == TOO_LARGE


def test_the_limit_holds_for_every_path(limited):
    assert limited.call("POST", "/v2/repository/index", b" " * (LIMIT + 1)).error == TOO_LARGE
    assert limited.call("POST", "/v2/models/identity_fp32/generate", b" " * (LIMIT + 1)).error == TOO_LARGE


def test_a_length_that_is_a_lie_is_none(limited):
    head = f"POST {INFER} HTTP/1.1\r\nContent-Length: {10**30}\r\nConnection: close\r\n\r\n".encode()
    assert exchange(limited.port, head).startswith(b"HTTP/1.1 400")


def test_there_may_be_no_limit(server):
    with serving_http(server, max_input_bytes=0) as running, Http(running.port) as calls:
        assert calls.infer("identity_fp32", body(3 << 20)).status == 200
