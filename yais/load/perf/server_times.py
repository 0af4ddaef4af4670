"""What a server counted of a model's requests while they were measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from operator import add
from typing import Any, Self

__all__ = ["Identity", "ServerTimes", "Total", "merged"]

Identity = tuple[str, str]
"""Name and version of a model."""


@dataclass(frozen=True, slots=True)
class Total:
    """How often something was done, and how long that took in all, nanoseconds."""

    count: int = 0
    ns: int = 0

    @property
    def mean(self) -> int:
        """Nanoseconds it took once; 0 where it was never done."""
        return self.ns // self.count if self.count else 0

    def plus(self, other: Total, sign: int = 1) -> Total:
        """Return the sum, or the difference."""
        return Total(self.count + sign * other.count, self.ns + sign * other.ns)


_NOTHING = Total()


@dataclass(frozen=True, slots=True)
class ServerTimes:
    """The statistics of a model.

    Attributes
    ----------
    inferences, executions
        Items that were computed, and in how many executions; none for answers from the cache.
    success
        Requests that were answered, from when they were received to their answer.
    queue, compute_input, compute_infer, compute_output, cache_hit, cache_miss
        Parts of that.
    composing
        The models of an ensemble, in the order of their names.
    """

    inferences: int = 0
    executions: int = 0
    success: Total = _NOTHING
    queue: Total = _NOTHING
    compute_input: Total = _NOTHING
    compute_infer: Total = _NOTHING
    compute_output: Total = _NOTHING
    cache_hit: Total = _NOTHING
    cache_miss: Total = _NOTHING
    composing: Mapping[Identity, ServerTimes] = field(default_factory=dict)

    @classmethod
    def of(cls, statistics: Any) -> Self:
        """Return those of a ModelStatistics message."""
        parts = statistics.inference_stats
        totals: dict[str, Any] = {
            name: Total(getattr(parts, name).count, getattr(parts, name).ns) for name in _TOTALS
        }
        return cls(statistics.inference_count, statistics.execution_count, **totals)

    @property
    def compute(self) -> Total:
        """Input, inference and output together, by execution of a request."""
        ns = self.compute_input.ns + self.compute_infer.ns + self.compute_output.ns
        return Total(self.compute_input.count, ns)

    def since(self, start: ServerTimes) -> ServerTimes:
        """Return what was counted since then; of one model, without `composing`."""
        return self._with(start, -1)

    def __add__(self, other: ServerTimes) -> ServerTimes:
        nothing = ServerTimes()
        composing = {
            name: self.composing.get(name, nothing) + other.composing.get(name, nothing)
            for name in sorted({*self.composing, *other.composing})
        }
        return self._with(other, 1, composing)

    def _with(
        self, other: ServerTimes, sign: int, composing: Mapping[Identity, ServerTimes] | None = None
    ) -> ServerTimes:
        totals: dict[str, Any] = {
            name: getattr(self, name).plus(getattr(other, name), sign) for name in _TOTALS
        }
        inferences = self.inferences + sign * other.inferences
        executions = self.executions + sign * other.executions
        return replace(
            self, inferences=inferences, executions=executions, composing=composing or {}, **totals
        )


_TOTALS = [
    each.name for each in fields(ServerTimes) if each.name not in {"inferences", "executions", "composing"}
]


def merged(times: Iterable[ServerTimes]) -> ServerTimes:
    """Return the sum of what was counted in several windows; at least one."""
    return reduce(add, times)
