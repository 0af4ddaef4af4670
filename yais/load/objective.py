"""An objective for latencies: "p99<10ms"."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from yais.errors import InvalidArgument
from yais.load.recording import Recording

__all__ = ["Objective"]

_FORM = re.compile(r"(avg|max|p(\d+(?:\.\d+)?))\s*(<=?)\s*(\d+(?:\.\d+)?|\.\d+)\s*(us|ms|s)")
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_COMPARED: dict[str, Callable[[float, float], bool]] = {"<": operator.lt, "<=": operator.le}


@dataclass(frozen=True, slots=True)
class Objective:
    """What a latency shall be below.

    Requests that failed, were never sent, or are still in flight, count as slower than anything.

    Attributes
    ----------
    what
        "avg", "max", or a percentile as "p99.9".
    relation
        "<" or "<=".
    limit
        Milliseconds.
    text
        As it was given, without spaces.
    """

    what: str
    relation: str
    limit: float
    text: str

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Return the objective that a text states.

        Raises
        ------
        InvalidArgument
            It states none.
        """
        found = _FORM.fullmatch(text.strip())
        if found is None or (found[2] is not None and not 0 < float(found[2]) <= 100):
            raise InvalidArgument(
                f"objective: got {text!r}, expected pN, avg or max, < or <=, and a time in us, ms or s:"
                " p99<10ms for example"
            )
        return cls(found[1], found[3], float(found[4]) * _MILLISECONDS[found[5]], "".join(text.split()))

    def __str__(self) -> str:
        return self.text

    def value(self, recording: Recording) -> float | None:
        """Return what is compared, in milliseconds; None where it is beyond all that was measured."""
        lost = recording.failed.total() + recording.unsent + max(0, recording.outstanding)
        if not recording.completed:
            return None
        if self.what in ("avg", "max"):
            if lost:
                return None
            return recording.mean if self.what == "avg" else recording.percentile(100)
        rank = max(1, int(float(self.what[1:]) / 100 * (recording.completed + lost) + 0.5))
        return None if rank > recording.completed else recording.percentile(100 * rank / recording.completed)

    def kept(self, recording: Recording) -> bool:
        """Return whether it was kept."""
        value = self.value(recording)
        return value is not None and _COMPARED[self.relation](value, self.limit)
