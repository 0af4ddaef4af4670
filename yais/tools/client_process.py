"""A process whose gRPC is set up for sending many requests."""

from __future__ import annotations

import os
import sys

__all__ = ["as_client_process"]

_VARIABLE = "GRPC_EXPERIMENTS"

_VERBOSITY = "GRPC_VERBOSITY"  # statuses of calls say what is wrong with a connection: one line is enough

_USUAL = "-event_engine_listener"  # what `yais.rpc.completion_queue` sets where the user has set nothing

# Twice the calls per second of the event engine. Not for every client: with it a call right after the
# restart of a server fails instead of connecting again.
_CLIENT = "-event_engine_client,-event_engine_listener"


def as_client_process() -> None:
    """Start this process again, with the setting that gRPC reads when it is imported.

    Does nothing where the user has set another, or after that. For the beginning of a program: what has
    been started does not end in order.
    """
    if os.environ.get(_VARIABLE, _USUAL) == _USUAL:
        environment = {_VERBOSITY: "NONE", **os.environ, _VARIABLE: _CLIENT}
        os.execve(sys.executable, sys.orig_argv, environment)
