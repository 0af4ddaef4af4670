"""ModelInferResponse to bytes, without building the message.

What a response says of itself (model, version, names, types and shapes of its outputs) is the same for
every request of one form: its wire form is kept, and only the id and the contents are added. Protobuf
readers take fields in any order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from yais.core.tensor import TensorSpec
from yais.protocol import kserve_pb2

__all__ = ["ResponseHead", "encode_infer_response", "encode_varint"]

_ID = b"\x1a"  # field 3, length-delimited
_RAW_OUTPUT = b"\x32"  # field 6, length-delimited


@dataclass(frozen=True, slots=True, eq=False)
class ResponseHead:
    """The part of a response that does not vary with the request.

    Attributes
    ----------
    wire
        Its wire form.
    """

    wire: bytes

    @classmethod
    def of(
        cls,
        model_name: str,
        model_version: str,
        outputs: Sequence[TensorSpec],
        parameters: Mapping[str, Mapping[str, str | int]] = MappingProxyType({}),
    ) -> ResponseHead:
        """Build the head for outputs of these concrete shapes, and what is said of some of them by name."""
        message = kserve_pb2.ModelInferResponse(model_name=model_name, model_version=model_version)
        for spec in outputs:
            output = message.outputs.add(name=spec.name, datatype=spec.datatype.value, shape=spec.shape)
            for key, value in parameters.get(spec.name, {}).items():
                kind = "string_param" if isinstance(value, str) else "int64_param"
                setattr(output.parameters[key], kind, value)
        return cls(message.SerializeToString())


def encode_infer_response(
    head: ResponseHead, request_id: str, contents: Sequence[bytes | memoryview]
) -> bytes:
    """Return the wire form of a response.

    Parameters
    ----------
    contents
        Row-major little-endian bytes of each output, in the order of the head's; copied once, here.
    """
    parts: list[bytes | memoryview] = [head.wire]
    if request_id:
        text = request_id.encode()
        parts += (_ID, encode_varint(len(text)), text)
    for data in contents:
        parts += (_RAW_OUTPUT, encode_varint(len(data)), data)
    return b"".join(parts)


_SHORT = [bytes((value,)) for value in range(0x80)]


def encode_varint(value: int) -> bytes:
    """Return a number as protobuf writes it."""
    if value < 0x80:
        return _SHORT[value]
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
