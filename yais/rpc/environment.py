"""What all calls of a server share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yais.core.loop_thread import LoopThread
from yais.rpc.completion_queue import CoreServer
from yais.rpc.interceptor import Interceptor
from yais.rpc.resources import Resources

__all__ = ["Environment"]


@dataclass(frozen=True, slots=True)
class Environment:
    """Made by a server for the life cycles of its calls.

    Attributes
    ----------
    core
        gRPC core's server, started.
    resources
        Given to every context.
    loop
        Where coroutines run.
    interceptors
        What sees every call, the outermost first.
    """

    core: CoreServer
    resources: Resources
    loop: LoopThread
    interceptors: Sequence[Interceptor]
