"""What all tests share."""

import contextlib
import gc
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

# How long one example takes says nothing while other tests run beside it.
with contextlib.suppress(ImportError):  # it is not needed everywhere that tests/gpu is run
    from hypothesis import settings

    settings.register_profile("tests", deadline=None)
    settings.load_profile("tests")


def pytest_collection_finish() -> None:
    """Keep the many objects that pytest makes of tests from the garbage collector.

    With them `gc.collect()`, by which tests look for what is left, takes 0.3 s.
    """
    gc.collect()
    gc.freeze()
