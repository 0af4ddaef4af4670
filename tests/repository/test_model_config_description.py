"""Configurations of models that have no file to say it."""

from __future__ import annotations

import pytest

from yais.core.tensor import DataType, TensorSpec
from yais.inference.layout import Signature
from yais.inference.model import Model
from yais.inference.model_options import ModelOptions
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.queue_policy import QueuePolicy, TimeoutAction
from yais.repository.config import options, parse_config, signature
from yais.repository.description import described

X = (TensorSpec("x", DataType.FP32, (-1, 4)),)


class Described(Model):
    """What is described of a model."""

    decoupled = False

    def __init__(self, signature, options, *, decoupled=False):
        self.signature = signature
        self.options = options
        self.decoupled = decoupled


@pytest.mark.parametrize(
    "batching",
    [
        None,
        BatchingPolicy(8, (8,)),
        BatchingPolicy(8, (4, 6), 7000, preserve_ordering=True),
        BatchingPolicy(
            8,
            (8,),
            priority_levels=3,
            default_priority=2,
            default_queue_policy=QueuePolicy(TimeoutAction.DELAY, 5000, max_size=7),
            queue_policies={1: QueuePolicy(allow_timeout_override=True)},
        ),
    ],
)
def test_what_is_described_means_the_same(batching):
    model = Described(Signature("m", X, X, 8), ModelOptions(batching, instances=3))
    config = described(model)
    config.backend = "python"  # that of the description is nobody's
    config = parse_config(config, "m")
    assert options(config) == model.options
    assert signature(config) == model.signature


def test_a_decoupled_model_says_so():
    model = Described(Signature("m", X, X, 0), ModelOptions(), decoupled=True)
    assert described(model).model_transaction_policy.decoupled
