"""What a Python model says of its own configuration."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

__all__ = ["AutoCompleteConfig"]

_PROPERTIES = ("name", "data_type", "dims", "optional")


class AutoCompleteConfig:
    """A configuration that a model fills in, with the methods that Triton's Python models know.

    What it does not say yet is set; what it says already must agree.

    Parameters
    ----------
    config
        As a dict: the fields by the names they have in config.pbtxt. Left alone.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config: dict[str, Any] = copy.deepcopy(dict(config))
        self._name = self._config.get("name", "")

    def as_dict(self) -> dict[str, Any]:
        """Return a copy: "name", "max_batch_size", "input" and "output" are always there."""
        return copy.deepcopy(self._config)

    def add_input(self, tensor: Mapping[str, Any]) -> None:
        """Add an input: "name", "data_type" as in "TYPE_FP32", "dims"; "optional" may be left out.

        Raises
        ------
        ValueError
            A property is missing or unknown, or there is such an input with another type or other dims.
        """
        self._add("input", tensor, _PROPERTIES)

    def add_output(self, tensor: Mapping[str, Any]) -> None:
        """Add an output: "name", "data_type" and "dims". Raises ValueError as `add_input` does."""
        self._add("output", tensor, _PROPERTIES[:3])

    def set_max_batch_size(self, size: int) -> None:
        """Set the largest batch; 0 for a model without a batch dimension.

        Raises
        ------
        ValueError
            The configuration has a larger one.
        """
        configured = self._config["max_batch_size"]
        if configured > size:
            raise ValueError(
                f"configuration specified max_batch_size {configured}, but in auto_complete_config function "
                f"for model '{self._name}' specified max_batch_size {size}"
            )
        self._config["max_batch_size"] = size

    def set_dynamic_batching(self) -> None:
        """Batch requests, unless the configuration says how they are scheduled."""
        if not any(key in self._config for key in ("sequence_batching", "ensemble_scheduling")):
            self._config.setdefault("dynamic_batching", {})

    def set_model_transaction_policy(self, policy: Mapping[str, Any]) -> None:
        """Say whether the model is decoupled: `{"decoupled": True}`.

        Raises
        ------
        ValueError
            There is another property, or the configuration says otherwise.
        """
        for key in policy:
            if key != "decoupled":
                raise ValueError(
                    "model transaction policy property in auto_complete_config function for model "
                    f"'{self._name}' contains property other than 'decoupled': '{key}'"
                )
        if "decoupled" not in policy:
            return
        configured = self._config.setdefault("model_transaction_policy", dict(policy))
        if configured.get("decoupled", False) != policy["decoupled"]:
            raise ValueError(
                "trying to change decoupled property in auto_complete_config function for model "
                f"'{self._name}', which is already set to '{configured.get('decoupled', False)}'"
            )

    def _add(self, kind: str, tensor: Mapping[str, Any], properties: tuple[str, ...]) -> None:
        where = f"in auto_complete_config function for model '{self._name}'"
        for key in tensor:
            if key not in properties:
                raise ValueError(
                    f"{kind} {where} contains property '{key}', expected {', '.join(properties)}"
                )
        for key in _PROPERTIES[:3]:
            if key not in tensor:
                raise ValueError(f"{kind} {where} is missing '{key}' property")
        added = {**tensor, "dims": list(tensor["dims"])}
        for known in self._config.setdefault(kind, []):
            if known["name"] == added["name"]:
                self._agree(kind, known, added)
                known.update(added)
                return
        self._config[kind].append(added)

    def _agree(self, kind: str, known: Mapping[str, Any], added: Mapping[str, Any]) -> None:
        for key, absent in (("data_type", ("TYPE_INVALID",)), ("dims", ([],))):
            if known.get(key, absent[0]) not in (*absent, added[key]):
                raise ValueError(
                    f"unable to load model '{self._name}', configuration expects {key} {known[key]} for "
                    f"{kind} '{added['name']}', model provides {added[key]}"
                )
