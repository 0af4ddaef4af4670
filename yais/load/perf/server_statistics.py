"""Asking a server what it has counted of a model and, for an ensemble, of those it is composed of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from yais.client.endpoint import Endpoint
from yais.load.perf.server_times import Identity, ServerTimes
from yais.protocol import kserve_pb2 as pb
from yais.protocol.model_config_pb2 import ModelConfig

__all__ = ["ServerStatistics", "Snapshot", "has_statistics"]

Snapshot = Mapping[Identity, ServerTimes]
"""All that a server has counted so far, by model and version."""


def has_statistics(endpoint: Endpoint) -> bool:
    """Return whether a server keeps statistics. Raises YaisError."""
    return "statistics" in endpoint.call("ServerMetadata", pb.ServerMetadataRequest()).extensions


class ServerStatistics:
    """The statistics of one model.

    Parameters
    ----------
    version
        Empty: the one that the server chooses.
    config
        Of the model. Those of the models of an ensemble are asked for.

    Raises
    ------
    YaisError
        What the server answers.
    """

    def __init__(self, endpoint: Endpoint, model: str, version: str, config: ModelConfig) -> None:
        self._endpoint = endpoint
        self._model = model, version
        self._composing: dict[str, list[Identity]] = {}
        self._find_composing(model, config)

    def snapshot(self) -> Snapshot:
        """Ask the server. Raises YaisError."""
        request = pb.ModelStatisticsRequest()
        if not self._composing:
            request.name, request.version = self._model
        answer = self._endpoint.call("ModelStatistics", request)
        return {(model.name, model.version): ServerTimes.of(model) for model in answer.model_stats}

    def between(self, start: Snapshot, end: Snapshot) -> ServerTimes | None:
        """Return what was counted between two moments; None where nothing was."""
        known = _counted(self._model, start, end)
        return None if known is None else self._between(known, start, end)

    def _between(self, known: Identity, start: Snapshot, end: Snapshot) -> ServerTimes:
        times = end[known].since(start.get(known, ServerTimes()))
        composing = {
            part: self._between(part, start, end)
            for name in self._composing.get(known[0], ())
            if (part := _counted(name, start, end)) is not None
        }
        return replace(times, composing=dict(sorted(composing.items())))

    def _find_composing(self, model: str, config: ModelConfig) -> None:
        steps = config.ensemble_scheduling.step
        if not steps:
            return
        versions = {
            (step.model_name, str(step.model_version) if step.model_version > 0 else "") for step in steps
        }
        self._composing[model] = sorted(versions)
        for name, version in self._composing[model]:
            request = pb.ModelConfigRequest(name=name, version=version)
            self._find_composing(name, self._endpoint.call("ModelConfig", request).config)


def _counted(model: Identity, start: Snapshot, end: Snapshot) -> Identity | None:
    """Return the model with its version: where none is given, the highest that was used meanwhile."""
    name, version = model
    if version:
        return model if model in end else None
    used = [
        known
        for known, times in end.items()
        if known[0] == name and times.queue.count > start.get(known, ServerTimes()).queue.count
    ]
    return max(used, key=lambda known: (int(known[1]) if known[1].isdecimal() else 0, known), default=None)
