"""Capacity: the memory that a manager has reserved, and whether a model fits into it."""

from __future__ import annotations

from yais.core.clock import Deadline
from yais.inference.plan import CapacityPlan, ModelPlan, staging_bytes
from yais.inference.tokens import Tokens
from yais.lane import Lanes

__all__ = ["Capacity"]


class Capacity:
    """What lanes and tokens have of memory. Not thread-safe.

    Parameters
    ----------
    lanes, tokens
        Whose memory it is.

    Attributes
    ----------
    allocated
        Whether memory was ever reserved.
    """

    def __init__(self, lanes: Lanes, tokens: Tokens) -> None:
        self.allocated = False
        self._lanes = lanes
        self._tokens = tokens
        self._staging = 0  # bytes in each lane
        self._device = 0

    def reserve(self, plan: CapacityPlan, timeout: float) -> None:
        """Give every lane and token what a plan says; raises as `Lanes.reserve` and `Tokens.reserve`."""
        deadline = Deadline.after(timeout)
        if plan.staging > self._staging or plan.device > self._device:
            self._lanes.reserve(plan.staging, timeout, device=plan.device)
            self._staging = max(self._staging, plan.staging)
            self._device = max(self._device, plan.device)
        self._tokens.reserve(plan.scratch, deadline.remaining() or 0.0)
        self.allocated = True

    def fits(self, plan: ModelPlan) -> bool:
        """Whether there is memory for a model."""
        return (
            staging_bytes([plan]) <= self._staging
            and plan.device <= self._device
            and plan.scratch <= self._tokens.scratch_size
        )

    def lacking(self, plan: ModelPlan) -> str:
        """Say what a model that does not fit needs, and what there is."""
        if not self.allocated:
            return f"model '{plan.name}' has no memory yet: call allocate()"
        return (
            f"model '{plan.name}' needs {staging_bytes([plan])} bytes of staging, {plan.device} of device "
            f"and {plan.scratch} of activation memory, and there are {self._staging}, {self._device} "
            f"and {self._tokens.scratch_size}: call update_resources()"
        )
