"""The echo example as its user runs it, and the code of the README."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from yais.serving.http.options import HttpOptions
from yais.serving.server import InferenceServer, ServerOptions

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "01_basic_grpc"


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", *command], cwd=EXAMPLE, stdout=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(120.0, process.kill)
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
        said = subprocess.run(client, cwd=EXAMPLE, capture_output=True, text=True, timeout=60.0, check=True)
        assert said.stdout.strip() == "good morning"
        server.send_signal(signal.SIGTERM)
        assert server.wait(60.0) == 0


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
        said = subprocess.run(client, cwd=EXAMPLE, capture_output=True, text=True, timeout=60.0, check=True)
        assert said.stdout.strip() == "from the README"


@pytest.fixture(scope="module")
def example_models() -> Iterator[InferenceServer]:
    options = ServerOptions(
        (ROOT / "examples" / "models",),
        grpc_address="127.0.0.1",
        grpc_port=0,
        http=HttpOptions("127.0.0.1", 0),
        metrics_port=None,
    )
    with InferenceServer(options) as server:
        yield server


def here(code: str, server: InferenceServer) -> str:
    """Return code of the README, for a server on other ports than the usual."""
    ports = {"localhost:8001": server.port, "localhost:8000": server.http_port}
    for usual, port in ports.items():
        code = code.replace(usual, f"127.0.0.1:{port}")
    return code


def answer_to(code: str, server: InferenceServer) -> str:
    command = [sys.executable, "-c", here(code, server)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60.0, check=True)
    return said.stdout


@pytest.mark.parametrize(
    "start",
    ["import numpy as np\nimport tritonclient.grpc", "import yais\n\nwith yais.Remote"],
    ids=["triton", "yais"],
)
def test_the_clients_of_the_readme_get_an_answer(start: str, example_models: InferenceServer) -> None:
    pytest.importorskip("tritonclient.grpc")
    answer = answer_to(readme_code(start), example_models)
    assert answer.strip("[] \n").split() == [str(2 * value) for value in range(16)]


def test_the_http_client_of_the_readme_sees_which_digit_it_is(example_models: InferenceServer) -> None:
    pytest.importorskip("tritonclient.http")
    code = readme_code("import numpy as np\nimport tritonclient.http")
    label = np.load(ROOT / "examples/models/digits/held_out.npz")["labels"][0]
    assert answer_to(code, example_models).strip() == str(label)


def test_the_picture_of_the_readme_is_read_by_the_ensemble_and_by_the_pipeline(
    example_models: InferenceServer,
) -> None:
    answer = answer_to(readme_code("import io\n\nimport numpy"), example_models)
    assert answer.splitlines() == ["[[b'seven']]"] * 2


def test_curl_gets_the_answers_that_the_readme_shows(example_models: InferenceServer) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    (curl localhost:8000/v2/models/\S+ -d '[^']*')$", text, re.MULTILINE)
    answers = []
    for command in commands:
        said = subprocess.run(
            [*shlex.split(here(command, example_models)), "--silent", "--show-error", "--fail"],
            capture_output=True,
            text=True,
            timeout=60.0,
            check=True,
        )
        answers.append(said.stdout)
    inferred, generated = answers
    assert json.loads(inferred)["outputs"][0]["data"] == ["seven"]
    assert f"`{generated}`" in text


def test_the_manager_of_the_readme_recognises_something() -> None:
    code = readme_code("import numpy as np\nimport yais")
    command = [sys.executable, "-W", "error", "-c", code]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60.0, check=True)
    *plan, digit = said.stdout.splitlines()
    assert digit.isdecimal()
    # The plan is the one that the README shows.
    assert "\n".join(plan) in (ROOT / "README.md").read_text(encoding="utf-8")
