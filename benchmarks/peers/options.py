"""The command line both peer servers understand."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.handler import MODEL


@dataclass(frozen=True)
class Options:
    """Which service to serve, where, and from which model."""

    service: str
    port: int
    model: Path


def parse() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--service", choices=("kserve", "echo", "streams"), required=True)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--model", type=Path, default=MODEL, help="the add/sub model (kserve only)")
    arguments = parser.parse_args()
    return Options(arguments.service, arguments.port, arguments.model)
