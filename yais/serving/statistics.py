"""ModelStatistics: the counts of models on the wire."""

from __future__ import annotations

from yais.errors import InvalidArgument, NotFound, Unavailable
from yais.inference.counts import Counts, Duration
from yais.protocol import kserve_pb2 as pb
from yais.repository.repository import LoadedModel
from yais.rpc.context import Context
from yais.serving.resources import ServingResources

__all__ = ["ModelStatisticsContext"]


class ModelStatisticsContext(
    Context[pb.ModelStatisticsRequest, pb.ModelStatisticsResponse, ServingResources]
):
    """Serves ModelStatistics: a version, all versions of a model, or all models."""

    def execute(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        """Answer the request."""
        response = pb.ModelStatisticsResponse()
        response.model_stats.extend(
            _model(loaded.model.name, loaded.model.version, loaded.model.counts())
            for loaded in self._asked(request)
        )
        return response

    def _asked(self, request: pb.ModelStatisticsRequest) -> list[LoadedModel]:
        repository = self.resources.models
        if not request.name:
            return [entry.loaded for entry in repository.entries if entry.loaded is not None]
        if not request.version:
            versions = [entry.loaded for entry in repository.entries if entry.name == request.name]
            if found := [loaded for loaded in versions if loaded is not None]:
                return found
        try:
            return [repository.find(request.name, request.version)]
        except (NotFound, Unavailable):
            version = f" version {request.version}" if request.version else ""
            raise InvalidArgument(f"requested model '{request.name}'{version} is not available") from None


def _model(name: str, version: str, counts: Counts) -> pb.ModelStatistics:
    return pb.ModelStatistics(
        name=name,
        version=version,
        last_inference=counts.last_inference,
        inference_count=counts.inferences,
        execution_count=counts.executions,
        inference_stats=pb.InferStatistics(
            success=_duration(counts.success),
            fail=_duration(counts.fail),
            queue=_duration(counts.queue),
            compute_input=_duration(counts.compute_input),
            compute_infer=_duration(counts.compute_infer),
            compute_output=_duration(counts.compute_output),
            cache_hit=_duration(counts.cache_hit),
            cache_miss=_duration(counts.cache_miss),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=size,
                compute_input=_duration(batch.compute_input),
                compute_infer=_duration(batch.compute_infer),
                compute_output=_duration(batch.compute_output),
            )
            for size, batch in sorted(counts.batches.items())
        ],
        response_stats={
            place: pb.InferResponseStatistics(
                **{name: pb.StatisticDuration(count=count, ns=ns) for name, (count, ns) in kinds.items()}
            )
            for place, kinds in counts.responses.items()
        },
    )


def _duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=duration.ns)
