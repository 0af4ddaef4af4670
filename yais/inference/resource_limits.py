"""How much there is of resources that models share: what was said of them, or enough for everybody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from yais.errors import InvalidArgument
from yais.inference.resource_queue import Member, Resource

__all__ = ["ResourceLimits"]


class ResourceLimits:
    """What was said of resources. Thread-safe.

    Parameters
    ----------
    limits
        See `yais.inference.rate_limiter.RateLimiter`.
    """

    def __init__(self, limits: Mapping[str | tuple[str, str], int]) -> None:
        self._limits = dict(limits)

    def available(self, members: Iterable[Member]) -> dict[Resource, int]:
        """Return how much there is of all that members need.

        Raises
        ------
        InvalidArgument
            It is less than one of them needs, or a name is one of the whole server for some and one of a
            device for others. The texts are Triton's.
        """
        most: dict[Resource, int] = {}
        for member in members:
            for resource, count in member.needs.items():
                most[resource] = max(count, most.get(resource, 0))
        on_devices = {resource.name for resource in most if resource.device is not None}
        for name in sorted(resource.name for resource in most if resource.device is None):
            if name in on_devices:
                raise InvalidArgument(
                    f'Resource "{name}" is present as both global and device-specific resource in the model '
                    "configuration."
                )
        return {resource: self._limited(resource, count) for resource, count in most.items()}

    def _limited(self, resource: Resource, needed: int) -> int:
        # The most, if several things were said of it, as in Triton.
        limit = max([count for key, count in self._limits.items() if _means(key, resource)], default=needed)
        if limit < needed:
            raise InvalidArgument(
                f'Resource count for "{resource.name}" is limited to {limit} which will prevent scheduling '
                f"of one or more model instances, the minimum required count is {needed}"
            )
        return limit


def _means(key: str | tuple[str, str], resource: Resource) -> bool:
    if isinstance(key, str):
        return key == resource.name
    name, device = key
    return name == resource.name and resource.device in {None, device}
