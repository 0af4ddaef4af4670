"""yais and Triton's client register messages of the same names; one process may hold both."""

from __future__ import annotations

import subprocess
import sys

import pytest
from onnx_models import EXAMPLES

BOTH = """
{imports}
import numpy as np
from pathlib import Path

with InferenceServer(ServerOptions((Path({models!r}),), "127.0.0.1", 0, metrics_port=None)) as server:
    address = f"127.0.0.1:{{server.port}}"
    rows = np.arange(32, dtype=np.int32).reshape(2, 1, 16)
    with triton.InferenceServerClient(address) as client, RemoteInferenceManager(address) as manager:
        inputs = [triton.InferInput(f"INPUT{{index}}", [1, 16], "INT32") for index in range(2)]
        for tensor, row in zip(inputs, rows):
            tensor.set_data_from_numpy(row)
        theirs = client.infer("simple", inputs, client_timeout=20)
        ours = manager.infer_runner("simple").infer(INPUT0=rows[0], INPUT1=rows[1]).result(20)
        for name in ("OUTPUT0", "OUTPUT1"):
            assert np.array_equal(theirs.as_numpy(name), ours[name])
        assert client.get_model_config("simple", as_json=True)["config"]["name"] == "simple"
"""

IMPORTS = [
    "import tritonclient.grpc as triton",
    "from yais.serving.server import InferenceServer, ServerOptions",
    "from yais.client.remote import RemoteInferenceManager",
]


@pytest.mark.parametrize("order", [IMPORTS, IMPORTS[::-1]], ids=["triton first", "yais first"])
def test_one_process_runs_both(order):
    program = BOTH.format(imports="\n".join(order), models=str(EXAMPLES))
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
