"""Recordings of made-up runs, the same each time."""

from __future__ import annotations

import heapq
import random

from yais.errors import Code
from yais.load.recorder import Recorder
from yais.load.recording import Recording

SECOND = 10**9


def made_recording(
    *,
    rate: float = 200.0,
    seconds: float = 5.0,
    stall: tuple[float, float] | None = None,
    failing: float = 0.0,
    cap: int = 50,
    seed: int = 1,
) -> Recording:
    """Return what comes of a constant rate against a server that answers after about 2 ms.

    Parameters
    ----------
    stall
        From when and for how long it answers nothing, seconds.
    failing
        The part of the requests that ends with UNAVAILABLE or, rarer, DEADLINE_EXCEEDED.
    cap
        Requests that may be outstanding.
    """
    chance, recorder = random.Random(seed), Recorder()
    answers: list[tuple[int, int, int]] = []
    stalled = [int(each * SECOND) for each in (stall[0], sum(stall))] if stall else [0, 0]
    now = 0

    def answer() -> int:
        end, due, sent = heapq.heappop(answers)
        code = Code.OK
        if chance.random() < failing:
            code = chance.choice([Code.UNAVAILABLE] * 4 + [Code.DEADLINE_EXCEEDED])
        recorder.answered(end, due, sent, code, "" if code is Code.OK else _TEXTS[code])
        return end

    for number in range(int(rate * seconds)):
        due = int(number * SECOND / rate)
        while answers and answers[0][0] <= max(now, due):
            now = answer()
        recorder.scheduled(max(now, due))
        held_back = len(answers) >= cap
        while len(answers) >= cap:
            now = answer()
        now = max(now, due)
        recorder.sent(now, late=now - due > 1_000_000, held_back=held_back)
        recorder.spent(20_000)
        end = now + int(chance.lognormvariate(0.7, 0.3) * 1e6)
        if stalled[0] <= end < stalled[1]:
            end = stalled[1] + (end - stalled[0]) // 100
        heapq.heappush(answers, (end, due, now))
    while answers:
        now = answer()
    return recorder.recording(now, int(seconds * SECOND))


_TEXTS = {
    Code.UNAVAILABLE: "failed to connect to all addresses; last error: <ipv4:127.0.0.1:8001> & \x07more",
    Code.DEADLINE_EXCEEDED: "Deadline Exceeded",
}


def nothing_completed() -> Recording:
    """Return what comes of a server that is not there."""
    return made_recording(seconds=2.0, failing=1.0)


def unsent_recording() -> Recording:
    """Return a run that ended with requests that were due and never sent, and some without an answer."""
    recorder = Recorder()
    for number in range(100):
        now = number * SECOND // 50
        recorder.scheduled(now)
        if number < 60:
            recorder.sent(now)
        if number < 50:
            recorder.answered(now + 1_500_000, now, now, Code.OK, "")
    recorder.unsent(40)
    return recorder.recording(2 * SECOND, 2 * SECOND)
