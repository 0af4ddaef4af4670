"""A server of a model that says where it is: `python tests/client/model_site.py NUMBER [--port 0] [--block]`.

    where  X INT32[-1] -> Y, the NUMBER; for X of that number it says so, and takes until it is sent a line

It ends when it is sent a line, or with --block, which is `serve(block=True)`, when it is sent a signal.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

import yais

X = yais.TensorSpec("X", yais.DataType.INT32, (-1,))
Y = yais.TensorSpec("Y", yais.DataType.INT32, (-1,))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("number", type=int)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--block", action="store_true")
    arguments = parser.parse_args()

    def where(arrays: Mapping[str, Any]) -> Mapping[str, Any]:
        time.sleep(0.002)  # is known for slow, so that it never runs on the thread that reads sockets
        if arrays["X"][0] == arguments.number:
            sys.stdout.write("waits\n")  # in one piece: several threads do
            sys.stdout.flush()
            sys.stdin.readline()
        return {"Y": np.full_like(arrays["X"], arguments.number)}

    with yais.InferenceManager(max_exec_concurrency=2) as manager:
        manager.register("where", where, inputs=[X], outputs=[Y])
        manager.allocate()
        server = manager.serve(arguments.port, arguments.block, address=arguments.address)
        if not arguments.block:
            print(f"port {server.port}", flush=True)
            sys.stdin.readline()
            server.stop()


if __name__ == "__main__":
    main()
