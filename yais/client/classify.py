"""Classification of images: batches of them in, the best classes of each out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yais.client.classes import ClassScore, class_scores
from yais.client.image_model import ImageModel
from yais.client.in_order import answered_in_order
from yais.client.infer_call import InferAnswer, InferCall, InputTensor, WantedOutput
from yais.client.transport import Transport
from yais.core.tensor import TensorSpec
from yais.errors import InvalidArgument
from yais.protocol.tensor_codec import encode

__all__ = ["ClassifiedBatch", "check_batch", "classified"]

Batch = Sequence[npt.NDArray[Any]]
"""Images as the model's input takes them (`yais.client.image.preprocess`); one where it takes no batches."""


@dataclass(frozen=True, slots=True)
class ClassifiedBatch:
    """The answer to a batch.

    Attributes
    ----------
    number
        Of its request, from 1.
    images
        The best classes of each image, best first.
    """

    number: int
    images: Sequence[Sequence[ClassScore]]


def classified(
    transport: Transport,
    model: ImageModel,
    batches: Iterable[Batch],
    *,
    classes: int = 1,
    in_flight: int = 1,
    timeout: float,
) -> Iterator[ClassifiedBatch]:
    """Send batches, and yield what they are, in their order.

    Parameters
    ----------
    batches
        Taken one by one, as there is room for them. Their requests are numbered from 1.
    classes
        How many of each image; a model that has fewer says them all.
    in_flight
        Requests under way at most.
    timeout
        Seconds to wait for an answer.

    Raises
    ------
    InvalidArgument
        The model does not take that many images in a request, or the answer is not one class or more of each.
    YaisError
        The first failure.
    """
    sizes = [0]  # by number

    def calls() -> Iterator[InferCall]:
        for number, batch in enumerate(batches, 1):
            sizes.append(len(batch))
            yield _call(model, number, batch, classes)

    for number, answers in enumerate(answered_in_order(transport, calls(), in_flight, timeout), 1):
        # On a stream an answer without outputs may say that there are no more.
        for answer in [answer for answer in answers if answer.outputs] or answers[:1]:
            yield ClassifiedBatch(number, _images(answer, model, sizes[number]))


def check_batch(model: ImageModel, size: int) -> None:
    """Raise InvalidArgument if a model does not take so many images in a request."""
    if size > max(model.max_batch_size, 1):
        takes = f"batches of at most {model.max_batch_size}" if model.max_batch_size else "no batches"
        raise InvalidArgument(f"got batches of {size} images, but model '{model.name}' takes {takes}")


def _call(model: ImageModel, number: int, batch: Batch, classes: int) -> InferCall:
    check_batch(model, len(batch))
    array = np.stack(batch) if model.max_batch_size else batch[0]
    spec = TensorSpec(model.input.spec.name, model.input.spec.datatype, array.shape)
    return InferCall(
        model.name,
        (InputTensor(spec, encode(array)),),
        (WantedOutput(model.output, classes),),
        model.version,
        str(number),
    )


def _images(answer: InferAnswer, model: ImageModel, size: int) -> list[list[ClassScore]]:
    output = answer.outputs.get(model.output)
    if output is None or not output.size or output.size % size:
        got = "none" if output is None else f"one of shape {list(output.shape)}"
        raise InvalidArgument(
            f"got {got} as output '{model.output}' of model '{model.name}', expected classes of {size} images"
        )
    scores = class_scores(output)
    each = len(scores) // size
    return [scores[start : start + each] for start in range(0, len(scores), each)]
