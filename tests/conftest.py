"""What all tests share."""

import signal
import sys
from pathlib import Path

import yais  # noqa: F401 - before grpc, as yais.rpc.completion_queue wants it

# The messages of the examples are what the tests of the RPC framework send.
sys.path.append(str(Path(__file__).parents[1] / "examples/01_basic_grpc"))

# A shell starts what runs in its background with SIGINT ignored, and what it starts inherits that. Tests
# interrupt programs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
