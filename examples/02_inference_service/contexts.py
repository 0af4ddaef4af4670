"""The RPCs of the service, a context each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from inference_service_pb2 import ComputeReply, ComputeRequest, StatusReply, StatusRequest
from resources import BATCH, NAME, InferenceResources

import yais
from yais.core.clock import NANOSECONDS
from yais.core.future import Future
from yais.core.tensor import DataType, TensorSpec
from yais.inference.request import InferRequest, InferResponse
from yais.inference.request_trace import BatchMoments

SIDE = 8  # pixels of an image, both ways


class ComputeTime:
    """Takes from the moments of a request how long the model ran; see `RequestTrace`."""

    seconds = 0.0
    ids: Mapping[str, str] = {}  # what logs would name it by

    def batch(self, moments: BatchMoments) -> None:
        self.seconds = (moments.output_start - moments.input_end) / NANOSECONDS

    def mark(self, name: str, at: int) -> None:
        pass

    def child(self, model: str, version: str, request: InferRequest) -> None:
        pass

    def follow(self, future: Future[InferResponse]) -> None:
        pass


class Compute(yais.Context[ComputeRequest, ComputeReply, InferenceResources]):
    async def execute(self, request: ComputeRequest) -> ComputeReply:
        images, timing = self.images(request), ComputeTime()
        asked = InferRequest(
            (TensorSpec("image", DataType.FP32, images.shape),),
            [images],
            deadline=self.deadline,  # what is not executed by then is not executed at all
            received=self.accepted,
            waited=self.waited,
            arrays=True,
            trace=timing,
        )
        # Waits for a batch, an instance, a lane and a token. Each is given back as soon as it can be: the
        # token when the model has run, the lane when the outputs are handed out.
        response = await self.resources.model.submit(asked)
        probabilities: npt.NDArray[Any] = np.asarray(response.data[0])
        return ComputeReply(
            batch_id=request.batch_id,
            digits=probabilities.argmax(axis=1),
            probabilities=probabilities.max(axis=1),
            total_seconds=self.elapsed,
            compute_seconds=timing.seconds,
        )

    def images(self, request: ComputeRequest) -> npt.NDArray[np.float32]:
        """Return the images that are asked about. Raises InvalidArgument."""
        if request.WhichOneof("images") == "own":
            first, count = request.own.first, request.own.count
            images = self.resources.own[first : first + count]
            if len(images) != count:
                own = len(self.resources.own)
                raise yais.InvalidArgument(f"got images {first} to {first + count}, expected 0 to {own}")
        elif len(request.pixels) % (SIDE * SIDE):
            raise yais.InvalidArgument(
                f"got {len(request.pixels)} bytes of pixels, expected {SIDE * SIDE} for each image"
            )
        else:
            pixels = np.frombuffer(request.pixels, np.uint8).reshape(-1, 1, SIDE, SIDE)
            images = pixels.astype(np.float32)
        if not 1 <= len(images) <= BATCH:
            raise yais.InvalidArgument(f"got {len(images)} images, expected 1 to {BATCH}")
        return images


class Status(yais.Context[StatusRequest, StatusReply, InferenceResources]):
    def execute(self, request: StatusRequest) -> StatusReply:  # noqa: ARG002
        counts = self.resources.counts()
        done = counts.success.count
        return StatusReply(
            model=NAME,
            max_batch_size=BATCH,
            images=len(self.resources.own),
            requests=done,
            load_ratio=counts.load_ratio.sum / done if done else 0.0,
        )
