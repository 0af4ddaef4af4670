"""A frontend process for tests: sends large requests without end, and reads the answers."""

from __future__ import annotations

import socket
import sys
import threading

import numpy as np
from link_pair import Call, shaped

from yais.core.tensor import DataType
from yais.serving.frontends.link import EngineLink


def main() -> None:
    """Send until killed."""
    link = EngineLink(told=lambda _topic, _value: None, memory=8 << 18)
    link.connect(socket.socket(fileno=int(sys.argv[1])))
    room = threading.Semaphore(32)
    data = np.arange(100_000, dtype=np.uint8).data

    while True:
        room.acquire()
        future = link.infer(shaped(DataType.UINT8, (100_000,), data), Call())
        future.add_done_callback(lambda _: room.release())


if __name__ == "__main__":
    main()
