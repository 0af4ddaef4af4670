"""Attacks over HTTP: all routes but those of infer."""

from __future__ import annotations

import re
from random import Random
from typing import Any
from urllib.parse import quote

from fuzz_bytes import ODD_TEXTS
from fuzz_http import line
from fuzz_json import bad_json
from fuzz_models import REGION, VICTIMS
from fuzz_target import Target

from yais.serving.http.openapi import description

_BODIES: tuple[dict[str, Any], ...] = (
    {"ready": True},
    {"parameters": {"config": '{"max_batch_size":"4"}', "file:1/model.onnx": "AAAA"}},
    {"parameters": {"unload_dependents": True}},
    {"key": "/nowhere", "offset": 0, "byte_size": 64},
    {"raw_handle": {"b64": "AAAA"}, "device_id": 0, "byte_size": 64},
    {"trace_level": ["TIMESTAMPS"], "trace_rate": "10", "trace_count": "-1", "log_frequency": "0"},
    {"log_info": False, "log_verbose_level": 0, "log_format": "default"},
    {"x": [2, 3], "id": "1", "parameters": {}, "stream": False},
    {"X": [1, 2], "text": "a"},
)

_OPERATIONS = sorted(
    (path, method.upper())
    for path, methods in description()["paths"].items()
    for method in set(methods) - {"parameters"}
    if not path.endswith("/infer")
)

_NAMES: dict[str, tuple[str, ...]] = {
    "model": (*VICTIMS, *VICTIMS, "none", *ODD_TEXTS),
    "version": ("1", "2", *ODD_TEXTS),
    "region": (REGION, *ODD_TEXTS),
    "repository": ODD_TEXTS,
}


def attack_routes(target: Target, random: Random) -> str:
    """Ask any other route for anything; return the status."""
    template, method = random.choice(_OPERATIONS)
    path = re.sub(r"\{(\w+)\}", lambda found: quote(random.choice(_NAMES[found[1]]), safe=""), template)
    if path.endswith(("/generate", "/generate_stream")) and random.randrange(2):
        model = random.choice(("words", "identity_fp32", "identity_bytes", "sum", "table"))
        path = f"/v2/models/{model}/{path.rpartition('/')[2]}"
    if not random.randrange(5):
        path += random.choice(("?", "?a=b", "?ready=%ff", "/", "//", "/..", "#x", "?" + "a" * 9000))
    if not random.randrange(6):
        method = random.choice(("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"))
    keys = ("parameters", "ready", "config", "id", "x", "X", "log_file", "trace_file", "key")
    body = bad_json(random, random.choice(_BODIES), keys) if random.randrange(8) else b""
    return line(target).exchange(method, path, body, {})
