"""Versions of models: which are wanted, and how requests write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from yais.errors import InvalidArgument
from yais.protocol.model_config_pb2 import ModelConfig

__all__ = ["version_number", "wanted_versions"]

_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,1000}\s*")  # int itself takes underscores, and has a limit


def wanted_versions(config: ModelConfig, available: Sequence[int]) -> list[int]:
    """Return the versions that the policy of a configuration asks for, of those available, ascending.

    Without a policy that is the highest. A specific version that is not there is left out, as in Triton.
    """
    policy = config.version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return sorted(available)
        case "specific":
            return sorted(set(available) & set(policy.specific.versions))
        case _:
            return sorted(available)[-(policy.latest.num_versions or 1) :]


def version_number(version: str) -> int | None:
    """Return the version that a request asks for; None for the latest.

    Raises
    ------
    InvalidArgument
        It is no positive number.
    """
    if not version:
        return None
    if not _NUMBER.fullmatch(version):
        raise InvalidArgument(
            f"failed to get model version from specified version string '{version}' (details: stol), "
            "version should be an integral value > 0"
        )
    number = int(version)
    if number <= 0:
        raise InvalidArgument(
            f"invalid model version specified '{version}' , version should be an integral value > 0"
        )
    return number
