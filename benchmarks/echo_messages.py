"""The messages of the echo example."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def echo_messages() -> Any:
    """Return the generated module of the echo example, which stands beside the example's server."""
    sys.path.append(str(Path(__file__).parents[1] / "examples" / "01_basic_grpc"))
    return importlib.import_module("echo_pb2")
