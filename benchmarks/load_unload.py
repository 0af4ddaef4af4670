"""Load and unload a model again and again in a real server, and see what memory stays behind.

The server is `yais serve` in mode explicit, the client Triton's. Every cycle loads the model, asks it,
unloads it and waits until the index says that it is unloaded. Printed is the resident memory of the server
with the model and after it, cycle by cycle, and what it grew by in the second half.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import tritonclient.grpc as triton
from onnx import TensorProto, helper

MIB = 1 << 20
PATIENCE = 30.0
"""Seconds for what must come to an end."""


def write_model(repository: Path, mib: int) -> None:
    """Write a model that looks its input up in a table of so many MiB."""
    count = mib * MIB // 4
    table = helper.make_tensor(
        "table", TensorProto.FLOAT, [count], np.ones(count, np.float32).tobytes(), raw=True
    )
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "index"], ["value"])],
        "table",
        [helper.make_tensor_value_info("index", TensorProto.INT64, ["batch", 1])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["batch", 1])],
        [table],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    path = repository / "table" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(model, str(path))


def resident(process: int) -> float:
    """Return the MiB of a process that are in memory."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def cycle(client: triton.InferenceServerClient, process: int) -> tuple[float, float]:
    """Load, ask and unload; return the memory with the model and after it, MiB."""
    client.load_model("table", client_timeout=PATIENCE)
    index = triton.InferInput("index", [1, 1], "INT64")
    index.set_data_from_numpy(np.zeros((1, 1), np.int64))
    client.infer("table", [index], client_timeout=PATIENCE)
    loaded = resident(process)
    client.unload_model("table", client_timeout=PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while client.get_model_repository_index(client_timeout=PATIENCE).models[0].state != "UNAVAILABLE":
        if time.monotonic() > deadline:
            raise TimeoutError("the model is not unloaded")
        time.sleep(0.005)
    return loaded, resident(process)


def main() -> None:
    """Run the cycles and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--mib", type=int, default=64, help="size of the model")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        write_model(Path(directory), arguments.mib)
        command = [sys.executable, "-m", "yais.tools.main", "serve", "--model-repository", directory]
        command += ["--model-control-mode=explicit", "--grpc-address=127.0.0.1", "--grpc-port=0"]
        server = subprocess.Popen([*command, "--allow-metrics=0"], stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            port = next(line for line in server.stdout if "Started GRPC" in line).rpartition(":")[2].strip()
            with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
                print(f"before: {resident(server.pid):.1f} MiB")
                sizes = []
                for number in range(arguments.cycles):
                    sizes.append(cycle(client, server.pid))
                    print(f"{number + 1:3}: {sizes[-1][0]:8.1f} MiB loaded, {sizes[-1][1]:8.1f} MiB after")
            grown = sizes[-1][1] - sizes[len(sizes) // 2][1]
            print(f"grown in the second half: {grown:.1f} MiB")
        finally:
            server.terminate()
            server.wait(PATIENCE)


if __name__ == "__main__":
    main()
