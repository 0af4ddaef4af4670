"""What happens to the servers of benchmarks/operations_soak.py, when, and what may fail because of it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.operations_soak_load import Failure
from benchmarks.operations_soak_servers import Server, Vanishing
from benchmarks.processes import BenchmarkError
from yais.errors import Code, YaisError

RELOAD, DRAIN, VANISH = "reload", "drain", "client vanishes"
FRONTEND, ENGINE = "frontend killed", "engine killed"
KILLS = (FRONTEND, ENGINE)
"""What loses requests that are in flight."""

_LOST = frozenset({Code.UNAVAILABLE, Code.UNKNOWN})
"""Statuses that requests in flight may have then: UNKNOWN is an answer that HAProxy had begun to pass on."""
_AFTER = 3.0
"""Seconds after a kill, and after what was killed is back, in which its requests have failed."""


@dataclass(frozen=True)
class Event:
    """What happened, to whom, and from when to when, of `time.monotonic`."""

    kind: str
    what: str
    start: float
    end: float


def order(kinds: tuple[str, ...], seed: int) -> Iterator[str]:
    """Yield kinds, without end: all, in an order drawn at random, then all again in another."""
    drawn = random.Random(seed)
    while True:
        yield from drawn.sample(kinds, len(kinds))


class Operator:
    """Lets things happen, one after the other, on a thread of its own.

    The second server is drained, and its engine is killed. Of the first, only frontends are killed that are
    not spared, so that there are processes whose memory can be seen over all of the time.

    Attributes
    ----------
    events, wrong
        What has happened; what should not have. Only appended to.
    """

    def __init__(
        self,
        servers: tuple[Server, Server],
        vanishing: Vanishing,
        kinds: tuple[str, ...],
        every: float,
        seed: int,
    ) -> None:
        self.events: list[Event] = []
        self.wrong: list[str] = []
        self._servers = servers
        self._vanishing = vanishing
        self._kinds = order(kinds, seed)
        self._random = random.Random(seed)
        self._every = every
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="operator")
        self._doing: Mapping[str, Callable[[], str]] = {
            RELOAD: self._reload,
            DRAIN: self._drain,
            VANISH: self._vanish,
            FRONTEND: self._kill_frontend,
            ENGINE: self._kill_engine,
        }

    def start(self) -> None:
        """Begin; the first thing happens after half of the time between two."""
        self._thread.start()

    def finish(self, timeout: float) -> None:
        """Let what is happening come to its end."""
        self._done.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self.wrong.append("the operator has not come to an end")

    def _run(self) -> None:
        due = time.monotonic() + self._every / 2
        for kind in self._kinds:
            if self._done.wait(max(0.0, due - time.monotonic())):
                return
            start = time.monotonic()
            try:
                what = self._doing[kind]()
            except (BenchmarkError, YaisError) as error:
                what = "failed"
                self.wrong.append(f"{kind}: {error}")
            self.events.append(Event(kind, what, start, time.monotonic()))
            due = max(due, start) + self._every

    def _reload(self) -> str:
        for server in self._servers:
            server.reload()
        return "both"

    def _drain(self) -> str:
        server = self._servers[1]
        server.drain()
        server.start()
        return server.name

    def _vanish(self) -> str:
        self._vanishing.vanish()
        return "the second client"

    def _kill_frontend(self) -> str:
        candidates = [
            (server, pid)
            for server in self._servers
            for pid in server.processes("frontend")
            if pid not in server.spared
        ]
        server, pid = self._random.choice(candidates)
        server.kill(pid)
        return server.name

    def _kill_engine(self) -> str:
        server = self._servers[1]
        server.kill(server.processes("engine")[0])
        return server.name


def unexplained(failed: Mapping[Failure, int], events: Sequence[Event]) -> list[str]:
    """Return which failures no kill explains."""
    wrong = []
    for (second, code, text), number in sorted(failed.items()):
        explained = code in _LOST and any(
            event.kind in KILLS and event.start - 1 <= second <= event.end + _AFTER for event in events
        )
        if not explained:
            near = [
                f"{each.kind}, {each.what}"
                for each in events
                if each.start - 1 <= second <= each.end + _AFTER
            ]
            then = "; ".join(near) or "nothing"
            wrong.append(f"{number} requests ended with {code.name} ({text}); at that time: {then}")
    return wrong
