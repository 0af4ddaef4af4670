"""An engine process for tests: serves what arrives on the descriptor it is given.

The first input says what to do: b"die" kills the process, b"stay" is never answered, and anything else comes
back.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from typing import Any

from link_pair import echo, no_call

from yais.core.future import Future
from yais.inference.request import InferResponse
from yais.protocol.infer_request import InferMessage
from yais.serving.frontends.link_server import FrontendLinks


def infer(request: InferMessage, caller: Any, **options: Any) -> Future[InferResponse]:
    """Do what a request says."""
    start = bytes(request.data[0][:4])  # type: ignore[index]
    if start.startswith(b"die"):
        os.kill(os.getpid(), signal.SIGKILL)
    return Future() if start == b"stay" else echo(request, caller, **options)


def main() -> None:
    """Serve until the frontend is gone."""
    gone = threading.Event()
    links = FrontendLinks(infer, no_call, gone=lambda _: gone.set())
    links.add(0, socket.socket(fileno=int(sys.argv[1])))
    links.push("ready", os.getpid())
    gone.wait()
    sys.exit(0 if links.close(10.0) else 1)


if __name__ == "__main__":
    main()
