"""The demo, on a machine where something else has the usual port of HTTP."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

USUAL = 8000


@pytest.fixture
def taken() -> Iterator[None]:
    """Listen on the usual port, unless something does already."""
    with socket.socket() as other:
        with contextlib.suppress(OSError):
            other.bind(("", USUAL))
            other.listen()
        yield


@pytest.mark.usefixtures("taken")
def test_the_demo_serves_http_elsewhere_and_is_right() -> None:
    command = [sys.executable, "examples/demo.py", "--once"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150.0, check=True).stdout
    port = re.search(r"--http-port (\d+)", said.partition("\n")[0])
    assert port is not None
    assert int(port[1]) != USUAL
    assert f"HTTP on port {port[1]}, metrics on port" in said
    assert re.search(r"accuracy +9[789]\.\d%", said)
