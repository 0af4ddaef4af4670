"""The echo example as its user runs it, and the code of the README."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "01_basic_grpc"


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", *command], cwd=EXAMPLE, stdout=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(30.0, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        watchdog.cancel()
        watchdog.join()


def test_the_client_hears_what_it_said_and_the_server_stops_when_told() -> None:
    with running("server.py", "--port", "0") as server:
        assert server.stdout is not None
        port = re.search(r"port (\d+)", server.stdout.readline())
        assert port is not None
        client = [sys.executable, "client.py", "--port", port[1], "--text", "good morning"]
        said = subprocess.run(client, cwd=EXAMPLE, capture_output=True, text=True, timeout=30.0, check=True)
        assert said.stdout.strip() == "good morning"
        server.send_signal(signal.SIGTERM)
        assert server.wait(30.0) == 0


def readme_code(start: str) -> str:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if block.startswith(start)]
    return code


def test_the_echo_service_of_the_readme_serves() -> None:
    code = readme_code("import yais\nfrom echo_pb2")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    # On a free port, which it has to tell.
    code = code.replace("0.0.0.0:50051", "127.0.0.1:0").replace(
        "server.run()", "server.start(); print(server.port, flush=True); server.run()"
    )
    with running("-c", code) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        client = [sys.executable, "client.py", "--port", port, "--text", "from the README"]
        said = subprocess.run(client, cwd=EXAMPLE, capture_output=True, text=True, timeout=30.0, check=True)
        assert said.stdout.strip() == "from the README"


@pytest.mark.parametrize(
    "start",
    ["import numpy as np\nimport tritonclient", "import yais\n\nwith yais.Remote"],
    ids=["triton", "yais"],
)
def test_the_clients_of_the_readme_get_an_answer(start: str) -> None:
    pytest.importorskip("tritonclient.grpc")
    from yais.serving.server import InferenceServer, ServerOptions

    options = ServerOptions(
        (ROOT / "examples" / "models",), grpc_address="127.0.0.1", grpc_port=0, metrics_port=None
    )
    with InferenceServer(options) as server:
        code = readme_code(start).replace("localhost:8001", f"127.0.0.1:{server.port}")
        command = [sys.executable, "-c", code]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30.0, check=True)
    assert answer.stdout.split() == [
        "[[",
        "0",
        "2",
        "4",
        "6",
        "8",
        "10",
        "12",
        "14",
        "16",
        "18",
        "20",
        "22",
        "24",
        "26",
        "28",
        "30]]",
    ]


def test_the_manager_of_the_readme_recognises_something() -> None:
    code = readme_code("import numpy as np\nimport yais")
    command = [sys.executable, "-W", "error", "-c", code]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30.0, check=True)
    *plan, digit = said.stdout.splitlines()
    assert digit.isdecimal()
    # The plan is the one that the README shows.
    assert "\n".join(plan) in (ROOT / "README.md").read_text(encoding="utf-8")
