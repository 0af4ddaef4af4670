"""Pipelines and latency objectives in a manager."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from modelling import SOON

import yais
from yais.core.tensor import DataType, TensorSpec
from yais.errors import InvalidArgument, NotFound, ResourceExhausted
from yais.inference.pipeline_models import PipelineModels
from yais.inference.scheduling.dynamic import BatchingPolicy
from yais.inference.scheduling.slo import SloPolicy

X, Y = TensorSpec("X", DataType.FP32, (-1, 2)), TensorSpec("Y", DataType.FP32, (-1, 2))
ONES = np.ones((1, 2), np.float32)


@pytest.fixture
def manager() -> Iterator[yais.InferenceManager]:
    manager = yais.InferenceManager(max_exec_concurrency=1)
    manager.register("double", lambda arrays: {"Y": arrays["X"] * 2}, inputs=[X], outputs=[Y])
    manager.register("increment", lambda arrays: {"Y": arrays["X"] + 1}, inputs=[X], outputs=[Y])
    manager.allocate()
    yield manager
    assert manager.close(SOON)


async def both(inputs: dict[str, Any], models: PipelineModels) -> dict[str, Any]:
    left, right = await asyncio.gather(
        models["double"].infer(X=inputs["X"]), models["increment"].infer(X=inputs["X"])
    )
    return {"Y": left["Y"] + right["Y"]}


def test_a_pipeline_asks_the_managers_models(manager: yais.InferenceManager) -> None:
    manager.register("both", both, inputs=[X], outputs=[Y])
    assert "both" in manager.get_models()
    runner = manager.infer_runner("both")
    # More than there are tokens, lanes and threads: it holds none of them while it waits.
    futures = [runner.infer(X=ONES * value) for value in range(40)]
    for value, future in enumerate(futures):
        assert future.get(SOON)["Y"].tolist() == [[3.0 * value + 1] * 2]
    assert manager.find("both").counts().executions == 40


def test_it_says_which_model_is_missing_and_takes_the_one_that_comes(manager: yais.InferenceManager) -> None:
    async def later(inputs: dict[str, Any], models: PipelineModels) -> dict[str, Any]:
        return await models["half"].infer(X=inputs["X"])

    manager.register("later", later, inputs=[X], outputs=[Y])
    runner = manager.infer_runner("later")
    with pytest.raises(NotFound, match="half"):
        runner.infer(X=ONES).get(SOON)
    manager.register("half", lambda arrays: {"Y": arrays["X"] / 2}, inputs=[X], outputs=[Y])
    assert runner.infer(X=ONES).get(SOON)["Y"].tolist() == [[0.5, 0.5]]


def test_it_takes_no_memory_and_is_in_the_plan(manager: yais.InferenceManager) -> None:
    manager.register("both", both, inputs=[X], outputs=[Y], concurrency=7)
    plan = {model.name: model for model in manager.plan().models}["both"]
    assert (plan.concurrency, plan.staging, plan.scratch) == (7, 0, 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"batching": BatchingPolicy(4)}, "batching"), ({"concurrency": 0}, "concurrency=0")],
)
def test_wrong_options(manager: yais.InferenceManager, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        manager.register("both", both, inputs=[X], outputs=[Y], **options)


def test_a_pipeline_is_served(manager: yais.InferenceManager) -> None:
    manager.register("both", both, inputs=[X], outputs=[Y])
    server = manager.serve(port=0, block=False, address="127.0.0.1")
    try:
        with yais.RemoteInferenceManager(f"127.0.0.1:{server.port}") as remote:
            assert remote.infer_runner("both").infer(X=ONES).get(SOON)["Y"].tolist() == [[4.0, 4.0]]
    finally:
        assert server.stop()


def test_an_objective_instead_of_batching(manager: yais.InferenceManager) -> None:
    for name, objective in (("lenient", SOON * 10**9), ("impossible", 1)):
        slo = SloPolicy(BatchingPolicy(4), objective=int(objective))
        manager.register(name, lambda arrays: {"Y": arrays["X"] * 2}, inputs=[X], outputs=[Y], batching=slo)
    assert manager.infer_runner("lenient").infer(X=ONES).get(SOON)["Y"].tolist() == [[2.0, 2.0]]
    with pytest.raises(ResourceExhausted, match="objective"):
        manager.infer_runner("impossible").infer(X=ONES).get(SOON)
    with pytest.raises(InvalidArgument, match="max_batch_size"):
        manager.register(
            "M",
            lambda arrays: {"Y": arrays["X"]},
            inputs=[X],
            outputs=[Y],
            max_batch_size=8,
            batching=SloPolicy(BatchingPolicy(4), objective=1),
        )
