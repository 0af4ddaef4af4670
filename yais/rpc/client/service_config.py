"""gRPC's service config, from plain arguments: how a client retries and balances."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yais.errors import Code, InvalidArgument

__all__ = ["Retry", "service_config"]

_SHORTEST = 0.01


@dataclass(frozen=True, slots=True)
class Retry:
    """How gRPC core repeats a call that failed before any of its reply arrived.

    Parameters
    ----------
    attempts
        Attempts in all, the first one included: 2 to 5, since core makes no more.
    initial_backoff, max_backoff
        Seconds before the second attempt, and at most before a later one, each at least 0.01; core varies
        them by a fifth.
    multiplier
        Factor from one backoff to the next.
    codes
        Names of the statuses on which to try again.

    Raises
    ------
    InvalidArgument
        A value that core would refuse.
    """

    attempts: int = 4
    initial_backoff: float = 0.1
    max_backoff: float = 1.0
    multiplier: float = 2.0
    codes: Sequence[str] = ("UNAVAILABLE",)

    def __post_init__(self) -> None:
        if not 2 <= self.attempts <= 5:
            raise InvalidArgument(f"got {self.attempts} attempts, expected 2 to 5")
        for name in ("initial_backoff", "max_backoff"):
            # With a millisecond, core after 1.71 often never makes the attempt: grpc/grpc issue 41036.
            if not getattr(self, name) >= _SHORTEST:
                raise InvalidArgument(f"got {name} {getattr(self, name)}, expected at least {_SHORTEST} s")
        if not self.multiplier > 0:
            raise InvalidArgument(f"got multiplier {self.multiplier}, expected more than 0")
        retryable = set(Code.__members__) - {"OK"}
        if isinstance(self.codes, str) or not self.codes or not retryable.issuperset(self.codes):
            raise InvalidArgument(f"got codes {self.codes!r}, expected some of {sorted(retryable)}")

    def policy(self) -> dict[str, Any]:
        """Return it in the words of the service config."""
        return {
            "maxAttempts": self.attempts,
            "initialBackoff": _seconds(self.initial_backoff),
            "maxBackoff": _seconds(self.max_backoff),
            "backoffMultiplier": self.multiplier,
            "retryableStatusCodes": list(self.codes),
        }


def service_config(retry: Retry | None, balancing: str | None, health_service: str | None) -> str | None:
    """Return a service config for all methods as JSON; None where there is nothing to say."""
    config: Mapping[str, Any] = {
        "methodConfig": [{"name": [{}], "retryPolicy": retry.policy()}] if retry else None,
        "loadBalancingConfig": [{balancing: {}}] if balancing else None,
        "healthCheckConfig": {"serviceName": health_service} if health_service is not None else None,
    }
    said = {key: value for key, value in config.items() if value is not None}
    return json.dumps(said) if said else None


def _seconds(value: float) -> str:
    return f"{value:.9f}s"
