"""An engine process for tests of the crew: takes what comes, and has forked a process that stays."""

from __future__ import annotations

import os
import signal
import socket
import sys

from yais.serving.frontends.control import ControlChannel, Listening, Loaded, Stop


def main() -> None:
    """Do what the supervisor says until it says to stop."""
    channel = ControlChannel(socket.socket(fileno=int(sys.argv[1])))
    channel.receive()
    if not os.fork():
        signal.pause()
    channel.send(Listening(None))
    channel.send(Loaded([]))
    while (received := channel.receive()) is not None and not isinstance(received[0], Stop):
        pass


if __name__ == "__main__":
    main()
