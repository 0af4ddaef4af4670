"""What all tests share."""

import sys
from pathlib import Path

import yais  # noqa: F401 - before grpc, as yais.rpc.completion_queue wants it

# The messages of the examples are what the tests of the RPC framework send.
sys.path.append(str(Path(__file__).parents[1] / "examples/01_basic_grpc"))
