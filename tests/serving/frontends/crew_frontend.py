"""A frontend for tests of the crew: loses its first link, is ready with the second, and counts a lot."""

from __future__ import annotations

import socket
import sys

from yais.serving.frontends.control import (
    Connect,
    ControlChannel,
    FrontendCounts,
    Parted,
    Ready,
    Stop,
    Waiting,
)

COUNTS = 2000


def main() -> None:
    """Do what the supervisor says until it says to stop."""
    channel = ControlChannel(socket.socket(fileno=int(sys.argv[1])))
    channel.receive()
    channel.send(Waiting())
    links: list[int] = []
    while (received := channel.receive()) is not None and not isinstance(received[0], Stop):
        message = received[0]
        if isinstance(message, Connect):
            links.append(message.link)
            channel.send(Parted(links[0]))  # the second time this is news of yesterday
            if len(links) > 1:
                channel.send(Ready())
                for requests in range(1, COUNTS + 1):
                    channel.send(FrontendCounts(requests, requests))
    sys.exit(links[1:] != [first + 1 for first in links[:1]])


if __name__ == "__main__":
    main()
