"""What all tests share."""

import sys
from pathlib import Path

# The messages of the examples are what the tests of the RPC framework send.
sys.path.append(str(Path(__file__).parents[1] / "examples/01_basic_grpc"))
