"""The add/sub model as a runtime of MLServer."""

from __future__ import annotations

from mlserver import MLModel  # type: ignore[import-not-found]
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse  # type: ignore[import-not-found]


class AddSub(MLModel):  # type: ignore[misc]  # it is in an environment of its own
    """Answers on the event loop, since a hop would cost more than so small a model does."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Add and subtract the two inputs."""
        first, second = (NumpyCodec.decode_input(each) for each in payload.inputs)
        outputs = {"OUTPUT0": first + second, "OUTPUT1": first - second}
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            outputs=[NumpyCodec.encode_output(name, array) for name, array in outputs.items()],
        )
