"""Requests to a model's runner in this process, as a load sends them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from yais.client.transport import Done
from yais.errors import Code, status_of
from yais.infer_runner import InferFuture

__all__ = ["RunnerSender"]


class RunnerSender:
    """Starts inferences. See `yais.load.base_load.Sender`.

    Parameters
    ----------
    infer
        Starts one, on arrays by name.
    """

    def __init__(self, infer: Callable[[Any], InferFuture]) -> None:
        self._infer = infer

    def send(self, request: Any, done: Done) -> None:
        """Start an inference."""
        self._infer(request).add_done_callback(partial(_ended, done))


def _ended(done: Done, future: InferFuture) -> None:
    try:
        future.result(0)
    except BaseException as error:
        done(*status_of(error), None)
    else:
        done(Code.OK, "", None)
