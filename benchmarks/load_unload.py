"""Load and unload models again and again in a real server, and see what stays behind.

The server is `yais serve` in mode explicit, the client Triton's. Every cycle loads an ensemble of three
models, and with it these: one of ONNX with a table of some MiB, a Python model, and one in a worker process.
It asks the ensemble, unloads all and waits until the index says so. Printed, cycle by cycle, is what
the server has: resident memory with the models and after them, threads, descriptors, child processes, and
files in the directory for temporary ones and in /dev/shm; at the end what these grew by in the second half.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
import onnx
import tritonclient.grpc as triton
from onnx import TensorProto, helper

MIB = 1 << 20
PATIENCE = 60.0
"""Seconds for what must come to an end."""

TENSORS = """
input { name: 'X' data_type: TYPE_FP32 dims: 1 } output { name: 'Y' data_type: TYPE_FP32 dims: 1 }
max_batch_size: 4
"""

ADDS = """
class Model:
    def execute(self, inputs):
        return {"Y": inputs["X"] + 1}
"""

WORKER = "parameters { key: 'worker_process' value { string_value: 'true' } }"

STEPS = ("table", "here", "worker")


@dataclass(frozen=True, slots=True)
class Held:
    """What a server has now.

    Attributes
    ----------
    mib
        Resident memory.
    temporary, shared
        Files and directories below its temporary directory and in /dev/shm.
    """

    mib: float
    threads: int
    descriptors: int
    children: int
    temporary: int
    shared: int

    def __str__(self) -> str:
        """Return the numbers as a line of a table."""
        return f"{self.mib:8.1f} MiB " + " ".join(f"{number:5}" for number in astuple(self)[1:])


def write_models(repository: Path, mib: int) -> None:
    """Write the models, and the ensemble of them."""
    write_table(repository, mib)
    write_python(repository, "here", "")
    write_python(repository, "worker", WORKER)
    names = ["X", "between0", "between1", "Y"]
    steps = "".join(
        f"step {{ model_name: '{step}' model_version: -1 input_map {{ key: 'X' value: '{names[number]}' }} "
        f"output_map {{ key: 'Y' value: '{names[number + 1]}' }} }} "
        for number, step in enumerate(STEPS)
    )
    whole = repository / "whole"
    (whole / "1").mkdir(parents=True)
    (whole / "config.pbtxt").write_text(f"platform: 'ensemble' {TENSORS} ensemble_scheduling {{ {steps} }}")


def write_python(repository: Path, name: str, config: str) -> None:
    """Write a Python model that adds one."""
    path = repository / name / "1" / "model.py"
    path.parent.mkdir(parents=True)
    path.write_text(ADDS)
    (repository / name / "config.pbtxt").write_text(f"backend: 'python' {TENSORS} {config}")


def write_table(repository: Path, mib: int) -> None:
    """Write a model that looks its input up in a table of so many MiB."""
    count = mib * MIB // 4
    table = helper.make_tensor(
        "table", TensorProto.FLOAT, [count], np.ones(count, np.float32).tobytes(), raw=True
    )
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["X"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "index"], ["Y"]),
        ],
        "table",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["batch", 1])],
        [table],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    path = repository / "table" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(model, str(path))


def held(process: int, temporary: Path) -> Held:
    """Return what a server has."""
    root = Path(f"/proc/{process}")
    found = re.search(r"VmRSS:\s+(\d+) kB", (root / "status").read_text(encoding="utf-8"))
    assert found is not None
    tasks = os.listdir(root / "task")
    children = [(root / "task" / task / "children").read_text().split() for task in tasks]
    return Held(
        int(found[1]) / 1024,
        len(tasks),
        len(os.listdir(root / "fd")),
        sum(map(len, children)),
        len(list(temporary.rglob("*"))),
        len(os.listdir("/dev/shm")),
    )


def cycle(client: triton.InferenceServerClient, process: int, temporary: Path) -> tuple[Held, Held]:
    """Load, ask and unload; return what the server has with the models and after them."""
    client.load_model("whole", client_timeout=PATIENCE)
    given = triton.InferInput("X", [1, 1], "FP32")
    given.set_data_from_numpy(np.zeros((1, 1), np.float32))
    answer = client.infer("whole", [given], client_timeout=PATIENCE).as_numpy("Y").item()
    assert answer == 3, answer
    loaded = held(process, temporary)
    client.unload_model("whole", unload_dependents=True, client_timeout=PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while any(row.state != "UNAVAILABLE" for row in client.get_model_repository_index().models):
        if time.monotonic() > deadline:
            raise TimeoutError("the models are not unloaded")
        time.sleep(0.005)
    return loaded, held(process, temporary)


def run(client: triton.InferenceServerClient, process: int, temporary: Path, cycles: int) -> None:
    """Run the cycles and print what they took."""
    print("                          after: resident thrds  fds  child temp  shm")
    print(f"before:                  {held(process, temporary)}")
    left = []
    for number in range(cycles):
        loaded, after = cycle(client, process, temporary)
        left.append(after)
        print(f"{number + 1:3}: {loaded.mib:8.1f} MiB loaded, {after}")
    middle, last = left[len(left) // 2], left[-1]
    grown = {
        field.name: round(getattr(last, field.name) - getattr(middle, field.name), 1)
        for field in fields(Held)
    }
    print(f"grown in the second half: {grown}")


def main() -> None:
    """Start a server, and run the cycles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--mib", type=int, default=64, help="size of the ONNX model")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryDirectory() as temporary:
        write_models(Path(directory), arguments.mib)
        command = [sys.executable, "-m", "yais.tools.main", "serve", "--model-repository", directory]
        command += ["--model-control-mode=explicit", "--grpc-address=127.0.0.1", "--grpc-port=0"]
        server = subprocess.Popen(
            [*command, "--allow-http=0", "--allow-metrics=0"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": temporary},
        )
        try:
            assert server.stdout is not None
            port = next(line for line in server.stdout if "Started GRPC" in line).rpartition(":")[2].strip()
            with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
                run(client, server.pid, Path(temporary), arguments.cycles)
        finally:
            server.terminate()
            server.wait(PATIENCE)


if __name__ == "__main__":
    main()
