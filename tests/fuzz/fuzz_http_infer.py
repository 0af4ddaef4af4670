"""Attacks over HTTP: inference in JSON and in binary, and the headers of it."""

from __future__ import annotations

import gzip
import zlib
from random import Random
from typing import Any
from urllib.parse import quote

from fuzz_bytes import ODD_NUMBERS, ODD_TEXTS, damaged
from fuzz_http import line
from fuzz_infer import KEYS
from fuzz_json import bad_json, text
from fuzz_models import REGION
from fuzz_target import Target

_INTEGERS = {"shape": [1, 16], "datatype": "INT32"}

GOOD: tuple[tuple[str, dict[str, Any], bytes], ...] = (
    (
        "simple",
        {
            "id": "1",
            "inputs": [
                {"name": "INPUT0", **_INTEGERS, "data": list(range(16))},
                {"name": "INPUT1", **_INTEGERS, "data": [list(range(16))]},
            ],
            "outputs": [{"name": "OUTPUT0", "parameters": {"binary_data": False}}],
        },
        b"",
    ),
    (
        "simple",
        {
            "parameters": {"binary_data_output": True, "priority": 1},
            "inputs": [
                {"name": name, **_INTEGERS, "parameters": {"binary_data_size": 64}}
                for name in ("INPUT0", "INPUT1")
            ],
        },
        bytes(range(128)),
    ),
    (
        "identity_bytes",
        {
            "inputs": [
                {"name": "X", "shape": [1, 2], "datatype": "BYTES", "parameters": {"binary_data_size": 11}}
            ],
            "outputs": [{"name": "Y", "parameters": {"binary_data": True}}],
        },
        b"\3\0\0\0abc\0\0\0\0",
    ),
    (
        "identity_bytes",
        {"inputs": [{"name": "X", "shape": [1, 2], "datatype": "BYTES", "data": ["a", "é"]}]},
        b"",
    ),
    (
        "labelled",
        {
            "inputs": [{"name": "X", "shape": [1, 3], "datatype": "FP32", "data": [1.5, -2, 0]}],
            "outputs": [{"name": "Y", "parameters": {"classification": 2}}],
        },
        b"",
    ),
    (
        "identity_fp32",
        {
            "inputs": [
                {
                    "name": "X",
                    "shape": [1, 8],
                    "datatype": "FP32",
                    "parameters": {
                        "shared_memory_region": REGION,
                        "shared_memory_byte_size": 32,
                        "shared_memory_offset": 0,
                    },
                }
            ],
            "outputs": [
                {
                    "name": "Y",
                    "parameters": {"shared_memory_region": REGION, "shared_memory_byte_size": 64},
                }
            ],
        },
        b"",
    ),
    (
        "sum",
        {
            "parameters": {"sequence_id": 3, "sequence_start": True, "sequence_end": True},
            "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}],
        },
        b"",
    ),
    ("table", {"inputs": [{"name": "index", "shape": [1, 1], "datatype": "INT64", "data": [1]}]}, b""),
    ("identity_bool", {"inputs": [{"name": "X", "shape": [1, 1], "datatype": "BOOL", "data": [True]}]}, b""),
    ("identity_fp16", {"inputs": [{"name": "X", "shape": [1, 1], "datatype": "FP16", "data": [1]}]}, b""),
    ("words", {"inputs": [{"name": "x", "shape": [2], "datatype": "INT32", "data": [3, 3]}]}, b""),
)

_KEYS = ("name", "shape", "datatype", "data", "parameters", "binary_data_size", "binary_data", *KEYS)


def _infer_path(model: str) -> str:
    return f"/v2/models/{quote(model, safe='')}/infer"


def attack_json(target: Target, random: Random) -> str:
    """Ask for inference with wrong JSON; return the status."""
    model, request, _ = random.choice([good for good in GOOD if not good[2]])
    if not random.randrange(10):
        model = random.choice((*ODD_TEXTS, "sum", "table"))
    return line(target).exchange("POST", _infer_path(model), bad_json(random, request, _KEYS), {})


def attack_binary(target: Target, random: Random) -> str:
    """Ask for inference with binary tensors of which something is wrong; return the status."""
    model, request, tail = random.choice([good for good in GOOD if good[2]])
    said = bad_json(random, request, _KEYS) if random.randrange(2) else text(request).encode()
    if random.randrange(2):
        tail = damaged(random, tail)
    length: Any = len(said)
    if not random.randrange(3):
        length = random.choice(
            (0, len(said) + 1, len(said) - 1, *ODD_NUMBERS, "", "x", "1 ", "+1", "1,1", "٣")
        )
    value = str(length).encode()
    return line(target).exchange(
        "POST", _infer_path(model), said + tail, {"Inference-Header-Content-Length": value}
    )


def _encoded(random: Random, body: bytes) -> tuple[str, bytes]:
    """Return a Content-Encoding, and the body in it, or in another, or damaged."""
    name = random.choice(("gzip", "deflate", "GZIP", "identity", "br", "gzip, deflate", "", "x"))
    made = random.choice((gzip.compress, zlib.compress, bytes))(body)
    match random.randrange(4):
        case 0:
            made = damaged(random, made)
        case 1:
            made *= 2
    return name, made


_HEADERS = (
    *("Accept-Encoding", "Accept", "Content-Type", "Authorization", "traceparent", "tracestate", "Cookie"),
    *("Inference-Header-Content-Length", "If-None-Match", "Range", "Origin", "Upgrade", "X-Odd", "Expect"),
)

_HEADER_VALUES = (
    *(
        b"",
        b" ",
        b"gzip",
        b"*;q=0",
        b"gzip;q=nan, deflate;q=1e9",
        b"deflate;q=",
        b";;;",
        b",,,",
        b"text/html",
    ),
    *(
        b"\xff\xfe",
        b"Bearer ",
        b"Bearer \xc3\xa9",
        b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01",
        b"x" * 9000,
    ),
    *(
        b"00-" + b"f" * 32 + b"-" + b"f" * 16 + b"-ff",
        b"websocket",
        b"h2c",
        b"100-continue",
        b"0",
        b"-1",
        b"9" * 99,
    ),
)


def attack_headers(target: Target, random: Random) -> str:
    """Ask for inference with odd headers, but a body that is framed well; return the status."""
    model, request, tail = random.choice(GOOD)
    said = text(request).encode()
    headers: dict[str, str | bytes] = {}
    body = said + tail
    if tail:
        headers["Inference-Header-Content-Length"] = str(len(said))
    if random.randrange(2):
        headers["Content-Encoding"], body = _encoded(random, body)
    for _ in range(random.randrange(4)):
        headers[random.choice(_HEADERS)] = random.choice(_HEADER_VALUES)
    # An upgrade is taken for none, and a body that it has would not be read.
    if "Upgrade" in headers:
        headers["Connection"] = "keep-alive"
    return line(target).exchange("POST", _infer_path(model), body, headers)
