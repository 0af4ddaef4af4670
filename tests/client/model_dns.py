"""A name server that knows one name."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_A = 1  # type of a record that is an IPv4 address
_TTL = 60  # seconds


@contextmanager
def name_server(addresses: Sequence[str]) -> Iterator[int]:
    """Answer every question for IPv4 addresses with `addresses`, and yield the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        answering = threading.Thread(target=_answer, args=(bound, addresses))
        answering.start()
        try:
            yield bound.getsockname()[1]
        finally:
            bound.sendto(b"", bound.getsockname())  # ends it
            answering.join()


def _answer(bound: socket.socket, addresses: Sequence[str]) -> None:
    while True:
        query, asker = bound.recvfrom(4096)
        if not query:
            return
        end = query.index(b"\0", 12) + 5  # of the name, its type and its class
        (kind,) = struct.unpack(">H", query[end - 4 : end - 2])
        known = addresses if kind == _A else ()
        header = query[:2] + struct.pack(">HHHHH", 0x8580, 1, len(known), 0, 0)  # an answer with authority
        records = [
            struct.pack(">HHHIH", 0xC00C, _A, 1, _TTL, 4) + socket.inet_aton(address) for address in known
        ]
        bound.sendto(header + query[12:end] + b"".join(records), asker)
