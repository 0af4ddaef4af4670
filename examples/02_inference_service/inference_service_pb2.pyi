# mypy: disable-error-code="type-arg, no-untyped-def"
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ComputeRequest(_message.Message):
    __slots__ = ("pixels", "own", "batch_id")
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    OWN_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    pixels: bytes
    own: Range
    batch_id: int
    def __init__(self, pixels: _Optional[bytes] = ..., own: _Optional[_Union[Range, _Mapping]] = ..., batch_id: _Optional[int] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("first", "count")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first: int
    count: int
    def __init__(self, first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class ComputeReply(_message.Message):
    __slots__ = ("batch_id", "digits", "probabilities", "total_seconds", "compute_seconds")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    DIGITS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    digits: _containers.RepeatedScalarFieldContainer[int]
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    total_seconds: float
    compute_seconds: float
    def __init__(self, batch_id: _Optional[int] = ..., digits: _Optional[_Iterable[int]] = ..., probabilities: _Optional[_Iterable[float]] = ..., total_seconds: _Optional[float] = ..., compute_seconds: _Optional[float] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("model", "max_batch_size", "images", "requests", "load_ratio")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    LOAD_RATIO_FIELD_NUMBER: _ClassVar[int]
    model: str
    max_batch_size: int
    images: int
    requests: int
    load_ratio: float
    def __init__(self, model: _Optional[str] = ..., max_batch_size: _Optional[int] = ..., images: _Optional[int] = ..., requests: _Optional[int] = ..., load_ratio: _Optional[float] = ...) -> None: ...
