"""Dependencies: whether the models that one needs are there, and are what they were."""

from __future__ import annotations

from collections.abc import Mapping

from yais.errors import InvalidArgument, NotFound, Unavailable
from yais.repository.loader import LoadPlan
from yais.repository.records import Attempt, Record, reaches, served_needs
from yais.repository.table import ModelTable

__all__ = ["Dependencies", "lacks"]


class Dependencies:
    """Looks up what models need. Only used on one thread.

    Parameters
    ----------
    table
        What is there.
    records
        What serves, and what that needs.
    """

    def __init__(self, table: ModelTable, records: Mapping[str, Record]) -> None:
        self._table = table
        self._records = records

    def found(self, plan: LoadPlan) -> tuple[object | None, ...]:
        """Return the keys of the models that one needs, None for one that is not there."""
        return tuple(self._key(name, version) for name, version in plan.needs)

    def outdated(self, attempt: Attempt) -> bool:
        """Return whether what a model needs is not there, or not as it was."""
        found = self.found(attempt.plan) if attempt.plan else ()
        return None in found or found != attempt.found

    def lack(self, name: str, plan: LoadPlan) -> str:
        """Return which model that one needs is not there, or needs it itself; empty if all is well."""
        for needed, version in plan.needs:
            if self._key(needed, version) is None:
                return lacks(name, needed, version)
            if reaches(served_needs(self._records), [needed], name):
                return f"circular dependency between ensembles: {name} -> ... -> {needed} -> {name}"
        return ""

    def _key(self, name: str, version: str) -> object | None:
        try:
            return self._table.find(name, version).key
        except (NotFound, Unavailable, InvalidArgument):
            return None


def lacks(name: str, needed: str, version: str = "") -> str:
    """Return Triton's text for a model that needs another, which is not there."""
    which = f"whose required version {version} is not loaded" if version else "which has no loaded version"
    return f"ensemble '{name}' depends on '{needed}' {which}"
