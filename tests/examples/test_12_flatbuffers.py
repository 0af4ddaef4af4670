"""The FlatBuffers example: its codec, and its programs."""

from __future__ import annotations

import re
import shutil
import subprocess

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from programs import ROOT, client, lines, module, server

codec = module("12_flatbuffers", "codec")
EXAMPLE = ROOT / "examples" / "12_flatbuffers"


@given(arrays(np.float32, st.integers(0, 100)))
def test_samples_survive_and_are_not_copied(values):
    message = codec.write_samples(values)
    read = codec.read_samples(message)
    assert read.tobytes() == values.tobytes()
    assert read.size == 0 or np.shares_memory(read, np.frombuffer(message, np.uint8))


@given(st.integers(0, 2**32 - 1), st.floats(width=32, allow_nan=False), st.floats(width=32, allow_nan=False))
def test_a_summary_survives(size, mean, deviation):
    summary = codec.Summary(size, mean, deviation)
    assert codec.read_summary(codec.write_summary(summary)) == summary


def test_the_client_gets_its_summary_or_an_error():
    with server("12_flatbuffers/server.py") as port:
        assert lines("12_flatbuffers/client.py", "--port", port) == [
            "100000 samples: mean 4.99, deviation 1.99"
        ]
        empty = client("12_flatbuffers/client.py", "--port", port, "--count", 0)
        assert (empty.returncode, empty.stderr.split(":")[0]) == (1, "INVALID_ARGUMENT")


OTHER = codec.write_summary(codec.Summary(0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("message", "code"),
    [
        pytest.param(b"", grpc.StatusCode.INTERNAL, id="empty"),
        pytest.param(b"\xff" * 16, grpc.StatusCode.INTERNAL, id="offsets out of bounds"),
        pytest.param(OTHER, grpc.StatusCode.INVALID_ARGUMENT, id="another message"),
    ],
)
def test_what_cannot_be_read_is_an_error_and_the_server_goes_on(message, code):
    with server("12_flatbuffers/server.py") as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        summarise = channel.unary_unary("/yais.examples.samples.Statistics/Summarise")
        with pytest.raises(grpc.RpcError) as raised:
            summarise(message, timeout=20.0)
        assert raised.value.code() is code
        values = codec.write_samples(np.array([1.0, 3.0], np.float32))
        assert codec.read_summary(summarise(values, timeout=20.0)) == codec.Summary(2, 2.0, 1.0)


@pytest.mark.skipif(shutil.which("flatc") is None, reason="flatc is not installed")
def test_the_generated_code_belongs_to_the_schema(tmp_path):
    shutil.copy(EXAMPLE / "samples.fbs", tmp_path)
    subprocess.run(["flatc", "--python", "--gen-onefile", "samples.fbs"], cwd=tmp_path, check=True)

    def names(text: str) -> set[str]:
        # Versions of flatc write the same things differently.
        return {match[0] for match in re.finditer(r"(?:class|def) \w+", text)}

    generated = (tmp_path / "samples_generated.py").read_text()
    assert names((EXAMPLE / "samples_generated.py").read_text()) <= names(generated)
