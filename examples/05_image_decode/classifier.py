"""What the image service has: threads that decode, and the way to the inference server behind it."""

from __future__ import annotations

from typing import Any

import yais
from yais.client.connection import Connection
from yais.client.endpoint import connect
from yais.client.image import Scaling, decode_image, preprocess
from yais.client.image_model import ImageModel, image_model
from yais.client.infer_call import InferAnswer, InferCall, InputTensor, WantedOutput
from yais.client.infer_message import answer_of, request_of
from yais.client.inference_service import service_method
from yais.client.shared_slots import SharedSlots
from yais.core.tensor import TensorSpec
from yais.protocol import kserve_pb2 as pb
from yais.rpc.client import Channels

Caller = yais.Context[Any, Any, Any]

PIXELS = 1 << 24  # of an image at most, before it is made as small as the model takes it


class ImageClassifier(yais.Resources):
    """Makes requests to a model of images as files.

    Parameters
    ----------
    target
        The inference server.
    model
        Any that takes an image and scores classes.
    threads
        Images that are decoded at a time.
    slots
        Images that may be in shared memory at a time; with 0 they are sent in messages instead.
    name
        What the regions of shared memory are called. Of this process alone on the machine, or in the pod.
    wait
        Seconds to wait for a free slot.
    timeout
        Seconds for the inference server, where the caller says nothing.
    """

    def __init__(
        self,
        target: str,
        model: str,
        *,
        threads: int = 2,
        slots: int = 64,
        name: str = "yais-image-decode",
        wait: float = 1.0,
        timeout: float = 10.0,
    ) -> None:
        self.target, self.model_name = target, model
        self.count, self.name, self.wait, self.timeout = slots, name, wait, timeout
        # A server that is started anew is found again within a second.
        self.channels = Channels(target, options=[("grpc.max_reconnect_backoff_ms", 1000)])
        self.infer = service_method(self.channels, "ModelInfer", timeout)
        self.server_ready = service_method(self.channels, "ServerReady", 1.0)
        self.slots: SharedSlots | None = None
        self.decoders = yais.ThreadPool(threads, name="decode")

    def open(self) -> None:
        """Ask what the model takes, and make slots of that size. Raises what the server answers."""
        with connect(Connection(self.target, timeout=self.timeout)) as endpoint:
            self.model: ImageModel = image_model(endpoint, self.model_name)
        spec = self.model.input.spec
        self.byte_size = spec.nbytes
        batch = (1,) if self.model.max_batch_size else ()
        self.spec = TensorSpec(spec.name, spec.datatype, (*batch, *spec.shape))
        if self.count:
            self.slots = SharedSlots(
                self.channels, count=self.count, size=self.byte_size, name=self.name, timeout=self.timeout
            )
            self.slots.clear()

    def close(self) -> None:
        """End the threads, then take the slots away, then disconnect."""
        self.decoders.close(1.0)
        if self.slots is not None:
            self.slots.close()
        self.channels.close()

    async def ready(self) -> bool:
        """Return whether the inference server takes requests."""
        try:
            reply: pb.ServerReadyResponse = await self.server_ready.submit(pb.ServerReadyRequest())
        except yais.YaisError:
            return False
        return reply.ready

    def ask(self, encoded: bytes, classes: int, context: Caller) -> yais.Future[InferAnswer]:
        """Decode an image and ask what it is; on a thread of `decoders`. Raises InvalidArgument, too."""
        _check(context)
        image = decode_image(encoded, most_pixels=PIXELS)
        outputs = (WantedOutput(self.model.output, classes),)
        if self.slots is None:
            pixels = preprocess(image, self.model.input, Scaling.NONE).tobytes()
            call = InferCall(self.model.name, [InputTensor(self.spec, pixels)], outputs)
            return self.infer.submit(request_of(call), timeout=self.left(context), then=answer_of)
        lease = self.slots.acquire(min(self.wait, self.left(context)))
        try:
            preprocess(image, self.model.input, Scaling.NONE, out=lease.item.view)
            _check(context)
            call = InferCall(
                self.model.name, [InputTensor(self.spec, lease.item.place(self.byte_size))], outputs
            )
        except BaseException:
            lease.release()
            raise
        return self.slots.infer(lease, call, timeout=self.left(context))

    def left(self, context: Caller) -> float:
        """Return the seconds that the caller of a context still waits, as far as it says so."""
        remaining = context.deadline.remaining()
        return self.timeout if remaining is None else remaining


def _check(context: Caller) -> None:
    """Raise if nobody waits for the answer any more."""
    if context.cancelled:
        raise yais.Cancelled("the caller has gone")
    if context.deadline.expired():
        raise yais.DeadlineExceeded("the deadline passed before the image was sent on")
