from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ComputeRequest(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: float
    def __init__(self, value: _Optional[float] = ...) -> None: ...

class ComputeReply(_message.Message):
    __slots__ = ("root", "batch_size", "backend", "batch")
    ROOT_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    root: float
    batch_size: int
    backend: str
    batch: int
    def __init__(self, root: _Optional[float] = ..., batch_size: _Optional[int] = ..., backend: _Optional[str] = ..., batch: _Optional[int] = ...) -> None: ...
