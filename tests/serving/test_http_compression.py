"""Compressed requests and responses."""

from __future__ import annotations

import gzip
import json
import zlib

import numpy as np
import pytest
import tritonclient.http as triton
from http_calls import Http, given, serving_http

from yais.serving.http.compression import accepted_encoding, compressed

MANY = given("X", "FP32", [1, 1000], [1.5] * 1000)


@pytest.fixture(scope="module")
def http(server):
    with serving_http(server, max_input_bytes=1 << 20) as running, Http(running.port) as calls:
        calls.port = running.port
        yield calls


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("GZIP;q=0.5", "gzip"),
        ("gzip, deflate", "gzip"),
        ("gzip;q=0.1, deflate;q=0.9", "deflate"),
        ("gzip;q=0", None),
        ("*", "gzip"),
        ("*;q=0.5, gzip;q=0", "deflate"),
        ("identity", None),
        ("br, zstd", None),
        ("gzip;q=0.5, identity", None),
        ("gzip, identity;q=0.5", "gzip"),
        ("", None),
        ("gzip;q=nonsense", None),
        ("gzip;q=7", None),
        (";;,,=", None),
    ],
)
def test_the_client_is_given_what_it_likes_best(header, expected):
    assert accepted_encoding(header) == expected


def test_compression_has_to_pay():
    noise = np.random.default_rng(1).bytes(100_000)
    assert compressed(noise, "gzip") is None
    assert compressed(b"a" * 100, "gzip") is None
    assert gzip.decompress(compressed(b"a" * 10_000, "gzip")) == b"a" * 10_000
    assert zlib.decompress(compressed(b"a" * 10_000, "deflate")) == b"a" * 10_000


@pytest.mark.parametrize("request_algorithm", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_algorithm", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [False, True])
def test_tritons_client_compresses_both_ways(http, request_algorithm, response_algorithm, binary):
    sent = np.full((2, 30_000), 2.5, np.float32)  # more than is compressed on the loop's thread
    tensor = triton.InferInput("X", sent.shape, "FP32")
    tensor.set_data_from_numpy(sent, binary_data=binary)
    with triton.InferenceServerClient(f"127.0.0.1:{http.port}") as client:
        result = client.infer(
            "identity_fp32",
            [tensor],
            outputs=[triton.InferRequestedOutput("Y", binary_data=binary)],
            request_compression_algorithm=request_algorithm,
            response_compression_algorithm=response_algorithm,
        )
    assert (result.as_numpy("Y") == sent).all()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_the_response_says_how_it_is_compressed(http, encoding):
    plain = http.infer("identity_fp32", {"inputs": [MANY]})
    reply = http.infer("identity_fp32", {"inputs": [MANY]}, **{"Accept-Encoding": encoding})
    assert reply.headers["content-encoding"] == encoding
    assert len(reply.body) == int(reply.headers["content-length"]) < len(plain.body)
    assert zlib.decompress(reply.body, 32 + zlib.MAX_WBITS) == plain.body
    assert "content-encoding" not in plain.headers


def test_the_length_of_the_json_is_that_of_the_body_before_compression(http):
    described = json.dumps({"inputs": [given("X", "FP32", [1, 2000], binary_data_size=8000)]}).encode()
    contents = np.arange(2000, dtype=np.float32).tobytes()
    headers = {"Inference-Header-Content-Length": str(len(described)), "Content-Encoding": "gzip"}
    reply = http.infer("identity_fp32", gzip.compress(described + contents), **headers)
    assert reply.json["outputs"][0]["data"][:3] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "zstd", "nonsense"])
def test_unknown_encodings_are_refused(http, encoding):
    reply = http.infer("identity_fp32", b"abc", **{"Content-Encoding": encoding})
    assert reply.error == (501, "Unsupported compression type")


def test_identity_is_no_compression(http):
    assert http.infer("identity_fp32", {"inputs": [MANY]}, **{"Content-Encoding": "identity"}).status == 200


def test_a_file_of_two_members_is_one_body(http):
    text = json.dumps({"inputs": [MANY]}).encode()
    body = gzip.compress(text[:100]) + gzip.compress(text[100:])
    assert http.infer("identity_fp32", body, **{"Content-Encoding": "gzip"}).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no gzip at all",
        gzip.compress(json.dumps({"inputs": [MANY]}).encode())[:-9],
        gzip.compress(b"{}") + b"and more",
    ],
    ids=["nothing", "no gzip", "cut short", "with more"],
)
def test_what_is_not_compressed_as_it_says_is_refused(http, body):
    status, text = http.infer("identity_fp32", body, **{"Content-Encoding": "gzip"}).error
    assert status == 400 and text.startswith("failed to decompress the request body: ")


def test_bombs_do_not_grow_beyond_the_limit(http):
    bomb = gzip.compress(b" " * (100 << 20), 1)
    assert len(bomb) < 1 << 20
    status, text = http.infer("identity_fp32", bomb, **{"Content-Encoding": "gzip"}).error
    assert status == 400 and "exceeds the maximum allowed input size of 1048576 bytes" in text
    assert http.infer("identity_fp32", {"inputs": [MANY]}).status == 200  # on the same connection
