"""Sets of CPU numbers, written as the kernel writes them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MOST_CPUS", "CpuSet"]

MOST_CPUS = 8192
"""CPUs that Linux can be built for: NR_CPUS in arch/x86/Kconfig."""

_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")


class CpuSet:
    """An immutable set of CPU numbers that iterates in order and prints as the kernel writes it.

    Parameters
    ----------
    cpus
        Text in the kernel's list format (cpuset(7), "List format"), as in "0-3,8", or the numbers.

    Raises
    ------
    ValueError
        The text is not such a list, or a number is negative; or a text has one that no machine has.
    """

    __slots__ = ("_cpus",)

    def __init__(self, cpus: str | Iterable[int] = ()) -> None:
        self._cpus = frozenset(_parsed(cpus) if isinstance(cpus, str) else cpus)
        if any(cpu < 0 for cpu in self._cpus):
            raise ValueError(f"got CPU number {min(self._cpus)}, expected none below 0")

    def __or__(self, other: CpuSet) -> CpuSet:
        return CpuSet(self._cpus | other._cpus)

    def __and__(self, other: CpuSet) -> CpuSet:
        return CpuSet(self._cpus & other._cpus)

    def __sub__(self, other: CpuSet) -> CpuSet:
        return CpuSet(self._cpus - other._cpus)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._cpus))

    def __contains__(self, cpu: object) -> bool:
        return cpu in self._cpus

    def __len__(self) -> int:
        return len(self._cpus)

    def __eq__(self, other: object) -> bool:
        return self._cpus == other._cpus if isinstance(other, CpuSet) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._cpus)

    def __str__(self) -> str:
        runs: list[list[int]] = []
        for cpu in self:
            if runs and cpu == runs[-1][-1] + 1:
                runs[-1][1:] = [cpu]
            else:
                runs.append([cpu])
        return ",".join("-".join(map(str, run)) for run in runs)

    def __repr__(self) -> str:
        return f"CpuSet({str(self)!r})"


def _parsed(text: str) -> Iterator[int]:
    for part in text.split(",") if text.strip() else ():
        match = _RANGE.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ValueError(
                f"got CPU list {text!r} with {part!r}, expected numbers and ranges as in '0-3,8'"
            )
        if last >= MOST_CPUS:
            raise ValueError(f"got CPU list {text!r}, expected numbers below {MOST_CPUS}")
        yield from range(first, last + 1)
