"""The error tree and the status each exception ends an RPC with."""

from __future__ import annotations

import asyncio
import concurrent.futures

import grpc
import pytest

from yais import errors
from yais.errors import (
    Code,
    DataLoss,
    DeadlineExceeded,
    NotFound,
    Unknown,
    YaisError,
    error_of,
    status_of,
)

CLASSES = [
    kind
    for kind in (getattr(errors, name) for name in errors.__all__)
    if isinstance(kind, type) and issubclass(kind, YaisError) and kind is not YaisError
]


def test_codes_are_those_of_grpc() -> None:
    assert {code.name: int(code) for code in Code} == {code.name: code.value[0] for code in grpc.StatusCode}


def test_one_class_for_each_code_with_its_name() -> None:
    assert {kind.code: kind.__name__.upper() for kind in CLASSES} == {
        code: code.name.replace("_", "") for code in Code if code is not Code.OK
    }


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_a_yais_error_is_its_code_and_message(kind: type[YaisError]) -> None:
    assert status_of(kind("model 'a' is unknown")) == (kind.code, "model 'a' is unknown")
    assert status_of(kind()) == (kind.code, "")


def test_the_code_is_inherited() -> None:
    class ModelNotFound(NotFound):
        pass

    assert status_of(ModelNotFound("x")) == (Code.NOT_FOUND, "x")
    assert YaisError.code is Unknown.code is Code.UNKNOWN


def test_a_missed_deadline_is_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        raise DeadlineExceeded("late")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (asyncio.CancelledError(), Code.CANCELLED, "CancelledError"),
        (concurrent.futures.CancelledError(), Code.CANCELLED, "CancelledError"),
        (TimeoutError("late"), Code.DEADLINE_EXCEEDED, "TimeoutError: late"),
        (NotImplementedError("no"), Code.UNIMPLEMENTED, "NotImplementedError: no"),
        (MemoryError(), Code.RESOURCE_EXHAUSTED, "MemoryError"),
        (KeyError("x"), Code.UNKNOWN, "KeyError: 'x'"),
        (ValueError(), Code.UNKNOWN, "ValueError"),
        (KeyboardInterrupt(), Code.UNKNOWN, "KeyboardInterrupt"),
    ],
    ids=lambda value: repr(value) if isinstance(value, BaseException) else "",
)
def test_foreign_exceptions(error: BaseException, code: Code, message: str) -> None:
    assert status_of(error) == (code, message)


def test_an_error_of_a_program_is_not_what_servers_answer() -> None:
    class Corrupt(YaisError):
        code = Code.DATA_LOSS

    assert type(error_of(Code.DATA_LOSS, "x")) is DataLoss
    assert status_of(Corrupt("x")) == (Code.DATA_LOSS, "x")
