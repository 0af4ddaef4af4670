"""Capacity: the memory that a manager has reserved on each site, and whether a model fits into it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from yais.core.clock import Deadline
from yais.inference.plan import CapacityPlan, ModelPlan, capacity_plan, staging_bytes
from yais.inference.sites import Sites

__all__ = ["Capacity", "SitePlans"]

SitePlans = Mapping[int | None, ModelPlan]
"""What a model needs on each site that has instances of it: by the number of the GPU, None for the host."""


class Capacity:
    """What the lanes and tokens of sites have of memory. Not thread-safe.

    Parameters
    ----------
    sites
        Whose memory it is.

    Attributes
    ----------
    allocated
        Whether memory was ever reserved.
    """

    def __init__(self, sites: Sites) -> None:
        self.allocated = False
        self._sites = sites

    def plan(self, models: Iterable[SitePlans]) -> CapacityPlan:
        """Return what models need together. Makes no site, and reserves nothing."""
        needs: dict[int | None, list[ModelPlan]] = {None: []}
        for model in models:
            for gpu, plan in model.items():
                needs.setdefault(gpu, []).append(plan)
        sites, host = self._sites, self._sites.of(None)
        gpus = {
            gpu: capacity_plan(needs[gpu], tokens=sites.executions, lanes=sites.lanes)
            for gpu in sorted(gpu for gpu in needs if gpu is not None)
        }
        own = capacity_plan(needs[None], tokens=host.tokens.size, lanes=host.lanes.size)
        return dataclasses.replace(own, gpus=gpus)

    def reserve(self, plan: CapacityPlan, timeout: float) -> None:
        """Give the lanes and tokens of every site what a plan says; raises as `Site.reserve`, `Sites.of`."""
        deadline = Deadline.after(timeout)
        for gpu, needed in ((None, plan), *plan.gpus.items()):
            self._sites.of(gpu).reserve(
                needed.staging,
                deadline.remaining() or 0.0,
                device=needed.device,
                scratch=needed.scratch,
            )
        self.allocated = True

    def fits(self, plans: SitePlans) -> bool:
        """Whether there is memory for a model, wherever its instances are."""
        return all(self._has(gpu, plan) for gpu, plan in plans.items())

    def lacking(self, plans: SitePlans) -> str:
        """Say what a model that does not fit needs, and what there is."""
        name = next(plan.name for plan in plans.values())
        if not self.allocated:
            return f"model '{name}' has no memory yet: call allocate()"
        gpu, plan = next((gpu, plan) for gpu, plan in plans.items() if not self._has(gpu, plan))
        needs = (
            f"model '{name}' needs {staging_bytes([plan])} bytes of staging, {plan.device} of device and "
            f"{plan.scratch} of activation memory"
        )
        site = self._sites.of(gpu) if self._is_there(gpu) else None
        there = (
            f"there are {site.lanes.staging_size}, {site.lanes.device_size} and {site.tokens.scratch_size}"
            if site is not None
            else "there is none"
        )
        where = "" if gpu is None else f" on GPU {gpu}"
        return f"{needs}{where}, and {there}: call update_resources()"

    def _has(self, gpu: int | None, plan: ModelPlan) -> bool:
        return self._is_there(gpu) and self._sites.of(gpu).fits(plan)

    def _is_there(self, gpu: int | None) -> bool:
        return gpu is None or gpu in self._sites.gpus
