"""Recordings whose numbers are known, for what is printed of them."""

from __future__ import annotations

from collections import Counter

from yais.errors import Code
from yais.load.histogram import latency_histogram
from yais.load.recording import Recording, Slice

MILLISECOND = 1_000_000


def recording(latencies=range(1, 1001), *, waits=0, failed=None, texts=None, **fields):
    """Return one of requests that took so many milliseconds, and had been due `waits` before that."""
    latency, service = latency_histogram(), latency_histogram()
    completed = 0
    for milliseconds in latencies:
        service.record_value(milliseconds * MILLISECOND)
        latency.record_value((milliseconds + waits) * MILLISECOND)
        completed += 1
    counts = Counter(failed or {})
    total = completed + counts.total()
    usual = {"seconds": 2.0, "drained": 2.5, "scheduled": total, "sent": total}
    return Recording(
        latency, service, completed=completed, failed=counts, texts=texts or {}, **{**usual, **fields}
    )


def troubled():
    """Return one of a server that did not keep up, ended early."""
    return recording(
        range(1, 901),
        waits=5,
        failed={Code.DEADLINE_EXCEEDED: 3, Code.UNAVAILABLE: 40},
        texts={
            Code.DEADLINE_EXCEEDED: "Deadline Exceeded",
            Code.UNAVAILABLE: "failed to connect to all addresses; last error: UNKNOWN: "
            "ipv4:127.0.0.1:8001: Failed to connect to remote host: Connection refused",
        },
        scheduled=1000,
        sent=950,
        late=300,
        held_back=250,
        unsent=50,
        interrupted=True,
        slices=(
            Slice(0.0, 1.0, 500, 500, 480, 3, 17, 1.234, 2.0, 12.345, 20.0),
            Slice(1.0, 0.5, 250, 225, 210, 20, 12, 9.0, 10.0, 123.4, 130.0),
        ),
    )


def nothing():
    """Return one without a single answer that is OK."""
    return recording((), failed={Code.UNAVAILABLE: 7}, texts={Code.UNAVAILABLE: "connection refused"})
