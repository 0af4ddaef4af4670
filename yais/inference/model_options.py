"""How a model is served: what its scheduler, its adapters and its instances are made from."""

from __future__ import annotations

from dataclasses import dataclass

from yais.inference.adapter import Adapter
from yais.inference.job import Job
from yais.inference.layout import Signature
from yais.inference.ordering import ResponseOrder
from yais.inference.rate_limiter import RateNeeds
from yais.inference.reshape import ReshapeAdapter, Reshapes
from yais.inference.scheduling.direct import DirectQueue
from yais.inference.scheduling.dynamic import BatchingPolicy, DynamicQueue
from yais.inference.scheduling.queue import BatchQueue
from yais.inference.scheduling.sequence import SequencePolicy, SequenceQueue
from yais.inference.scheduling.slo import SloPolicy, SloQueue
from yais.inference.sequence_tensors import SequenceAdapter, SequenceTensors
from yais.inference.warm_up import WarmUpSample

__all__ = ["ModelOptions", "adapters_of", "orders_of", "queue_of"]


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How a model is served.

    Attributes
    ----------
    batching
        How requests are batched; None runs each on its own, unless `sequences` or `slo` says otherwise. At
        most one of the three is given.
    instances
        Batches that may run at once.
    sequences, sequence_tensors
        How sequences of requests are batched, and what the model is told of them.
    slo
        The latency objective that batches are formed for.
    reshapes
        Shapes that the engine has for tensors that requests have with others.
    cache
        Whether answers are kept in the response cache.
    rate
        For each instance, what it needs of the resources of the rate limiter; empty for nothing.
    warm_up
        What to run before the first request.

    Raises
    ------
    ValueError
        They contradict each other.
    """

    batching: BatchingPolicy | None = None
    instances: int = 1
    sequences: SequencePolicy | None = None
    sequence_tensors: SequenceTensors | None = None
    slo: SloPolicy | None = None
    reshapes: Reshapes | None = None
    cache: bool = False
    rate: tuple[RateNeeds, ...] = ()
    warm_up: tuple[WarmUpSample, ...] = ()

    def __post_init__(self) -> None:
        policies = [policy for policy in (self.batching, self.sequences, self.slo) if policy is not None]
        if len(policies) > 1:
            raise ValueError(f"got {policies}, expected one of batching, sequences and slo")
        if (self.sequences is None) != (self.sequence_tensors is None):
            raise ValueError("expected sequences and sequence_tensors both, or neither")
        if self.rate and len(self.rate) != self.instances:
            raise ValueError(f"got rate for {len(self.rate)} instances, expected {self.instances}")

    @property
    def max_batch(self) -> int | None:
        """The largest batch of the policy; None without one."""
        policy = self.batching or self.sequences or (self.slo and self.slo.batching)
        return policy.max_batch if policy else None


def queue_of(options: ModelOptions, model: str) -> BatchQueue[Job]:
    """Return the state machine that decides which requests to `model` run together."""
    if options.sequences is not None:
        return SequenceQueue(options.sequences, model)
    if options.slo is not None:
        return SloQueue(options.slo)
    return DynamicQueue(options.batching) if options.batching is not None else DirectQueue()


def orders_of(options: ModelOptions) -> list[ResponseOrder]:
    """Return for each instance in which order answers leave; none if in any.

    The answers to a sequence leave in its order, and a sequence stays on its instance.
    """
    policy = options.batching or options.sequences
    if policy is not None and policy.preserve_ordering:
        return [ResponseOrder()] * options.instances
    if options.sequences is not None:
        return [ResponseOrder() for _ in range(options.instances)]
    return []


def adapters_of(options: ModelOptions, signature: Signature) -> list[Adapter]:
    """Return what lies between the tensors of requests and those of the engine."""
    adapters: list[Adapter] = []
    if options.reshapes is not None:
        adapters.append(ReshapeAdapter(options.reshapes, signature))
    if options.sequence_tensors is not None:
        adapters.append(SequenceAdapter(options.sequence_tensors, batching=bool(signature.max_batch)))
    return adapters
