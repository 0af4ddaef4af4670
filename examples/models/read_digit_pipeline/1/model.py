"""The digit in an image file, by asking three other models."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from yais.inference.pipeline_models import PipelineModels

Array = npt.NDArray[Any]


async def pipeline(inputs: dict[str, Array], models: PipelineModels) -> dict[str, Array]:
    decoded = await models["decode"].infer(encoded=inputs["encoded"])
    found = await models["digits"].infer(image=decoded["image"])
    named = await models["label"].infer(probabilities=found["probabilities"])
    return {"label": named["label"], "probabilities": found["probabilities"]}
