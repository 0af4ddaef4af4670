"""Python callables as engines: what goes in, what may come back, and in which of four forms."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.core.tensor import DataType, TensorSpec
from yais.engines.python import PythonEngine
from yais.errors import FailedPrecondition, Internal, InvalidArgument, NotFound

SOON = 20.0


def spec(name, datatype=DataType.FP32, shape=(-1,)):
    return TensorSpec(name, datatype, shape)


X, Y = spec("x"), spec("y")
ONES = np.ones(3, np.float32)


@pytest.fixture
def engine():
    """Return a function that makes engines, which are closed afterwards."""
    made = []

    def of(function, inputs=(X,), outputs=(Y,), **options):
        made.append(PythonEngine(function, inputs=inputs, outputs=outputs, **options))
        return made[-1]

    yield of
    for each in made:
        each.close()


def returning(engine, value, datatype=DataType.FP32, shape=(-1,)):
    made = engine(lambda _inputs: {"y": value}, outputs=[spec("y", datatype, shape)])
    (array,) = made.execute([ONES])
    return array


def refusal(call):
    with pytest.raises(Internal) as caught:
        call()
    return str(caught.value)


# What goes in


def test_what_is_left_out_is_not_there(engine):
    def function(inputs):
        assert list(inputs) == ["b"]
        return {"y": inputs["b"]}

    (y,) = engine(function, [X, spec("b")]).execute([None, ONES])
    assert y.tolist() == [1, 1, 1] and not np.shares_memory(y, ONES)


def test_the_function_gets_arrays_by_name_which_it_cannot_write_to(engine):
    seen = {}

    def function(inputs):
        seen.update(inputs)
        return {"y": inputs["x"] + inputs["b"]}

    writeable = np.ones(3, np.float32)
    (y,) = engine(function, [X, spec("b")]).execute([writeable, ONES])
    assert y.tolist() == [2, 2, 2]
    assert list(seen) == ["x", "b"]
    assert not any(array.flags.writeable for array in seen.values())
    assert np.shares_memory(seen["x"], writeable) and writeable.flags.writeable


def test_select_fixes_the_order(engine):
    made = engine(
        lambda inputs: {"sum": inputs["a"] + inputs["b"], "a": inputs["a"] * 1, "b": inputs["b"] * 1},
        [spec("a"), spec("b")],
        [spec("a"), spec("b"), spec("sum")],
    )
    made.select(["b", "a"], ["sum", "b"])
    assert [tensor.name for tensor in made.inputs] == ["b", "a"]
    assert [tensor.name for tensor in made.outputs] == ["sum", "b"]
    total, b = made.execute([ONES * 5, ONES])
    assert total.tolist() == [6, 6, 6] and b.tolist() == [5, 5, 5]


def test_select_refuses_other_names(engine):
    made = engine(dict)
    with pytest.raises(InvalidArgument, match=r"got inputs \['z'\], expected \['x'\] in any order"):
        made.select(["z"], ["y"])
    with pytest.raises(InvalidArgument, match=r"got outputs \['z'\], expected some of \['y'\]"):
        made.select(["x"], ["z"])


@pytest.mark.parametrize(("inputs", "outputs"), [([X, X], [Y]), ([X], [Y, Y]), ([X], [])])
def test_tensors_have_different_names_and_there_is_an_output(inputs, outputs):
    with pytest.raises(ValueError, match="expected different names, and at least one output"):
        PythonEngine(dict, inputs=inputs, outputs=outputs)


# What comes back


@pytest.mark.parametrize("datatype", DataType)
@pytest.mark.parametrize("shape", [(3,), (0,), (2, 0, 3), ()])
def test_every_type_comes_back_as_it_is(engine, datatype, shape):
    array = np.zeros(shape, datatype.numpy)
    if datatype is DataType.BYTES:
        array.fill(b"a\0")
    out = returning(engine, array, datatype, (-1,) * len(shape))
    assert out is array


@pytest.mark.parametrize(
    ("value", "datatype", "expected"),
    [
        ([1, 2], DataType.FP32, [1.0, 2.0]),
        ([1, 2], DataType.UINT8, [1, 2]),
        ([1.5], DataType.FP16, [1.5]),
        (np.array([1, 255]), DataType.UINT8, [1, 255]),
        (np.array([1, -128]), DataType.INT8, [1, -128]),
        (np.array([True]), DataType.INT32, [1]),
        (np.array([1.0, 2.0]), DataType.FP32, [1.0, 2.0]),
        (np.array([1.0], ">f4"), DataType.FP32, [1.0]),
        (np.array([1e300]), DataType.FP32, [np.inf]),
        ([], DataType.INT32, []),
        (np.array([], np.float64), DataType.BOOL, []),
        ([b"a\0", "\N{EURO SIGN}"], DataType.BYTES, [b"a\0", "\N{EURO SIGN}".encode()]),
        (np.array(["a", "b"]), DataType.BYTES, [b"a", b"b"]),
        ([np.bytes_(b"a")], DataType.BYTES, [b"a"]),
    ],
)
def test_what_fits_is_converted(engine, value, datatype, expected):
    array = returning(engine, value, datatype)
    assert array.dtype == datatype.numpy and array.tolist() == expected
    assert all(type(element) is bytes for element in array.tolist() if datatype is DataType.BYTES)


@pytest.mark.parametrize("value", [2, 2.0, np.float64(2), np.array(2)])
def test_scalars_have_no_dimensions(engine, value):
    array = returning(engine, value, shape=())
    assert array.shape == () and array.dtype == np.float32 and array == 2


LOSSY = "that cannot be converted without loss, expected"


@pytest.mark.parametrize(
    ("value", "datatype", "shape", "text"),
    [
        ([1.5], DataType.INT32, (-1,), f"got output 'y' as float64[1] {LOSSY} INT32[-1]"),
        ([256], DataType.UINT8, (-1,), f"got output 'y' as int64[1] {LOSSY} UINT8[-1]"),
        ([-1], DataType.UINT64, (-1,), f"got output 'y' as int64[1] {LOSSY} UINT64[-1]"),
        ([1 << 40], DataType.INT32, (-1,), f"got output 'y' as int64[1] {LOSSY} INT32[-1]"),
        ([2], DataType.BOOL, (-1,), f"got output 'y' as int64[1] {LOSSY} BOOL[-1]"),
        ([1j], DataType.FP32, (-1,), f"got output 'y' as complex128[1] {LOSSY} FP32[-1]"),
        (["a"], DataType.FP32, (-1,), f"got output 'y' as <U1[1] {LOSSY} FP32[-1]"),
        ([0.5], DataType.BF16, (-1,), f"got output 'y' as float64[1] {LOSSY} BF16[-1]"),
        (None, DataType.FP32, (), f"got output 'y' as object[] {LOSSY} FP32[]"),
        ([1], DataType.BYTES, (-1,), "got output 'y' as elements of type int, expected BYTES[-1]"),
        ([1.0], DataType.FP32, (-1, 2), "got output 'y' of shape [1], expected FP32[-1, 2]"),
        ([[1.0]], DataType.FP32, (-1, 2), "got output 'y' of shape [1, 1], expected FP32[-1, 2]"),
        (b"ab", DataType.BYTES, (-1,), "got output 'y' of shape [], expected BYTES[-1]"),
    ],
)
def test_what_does_not_fit_is_refused(engine, value, datatype, shape, text):
    assert refusal(lambda: returning(engine, value, datatype, shape)) == text


def test_rows_of_different_lengths_are_refused(engine):
    assert "inhomogeneous shape" in refusal(lambda: returning(engine, [[1.0], [1.0, 2.0]]))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), st.sampled_from(list(DataType)[1:9]))
def test_integers_are_converted_exactly_or_not_at_all(values, datatype):
    made = PythonEngine(lambda _: {"y": values}, inputs=[X], outputs=[spec("y", datatype)])
    limits = np.iinfo(datatype.numpy)
    if all(limits.min <= value <= limits.max for value in values):
        assert made.execute([ONES])[0].tolist() == values
    else:
        assert LOSSY in refusal(lambda: made.execute([ONES]))


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({}, "got outputs [], expected ['y']"),
        ({"y": 1, "z": 2}, "got outputs ['y', 'z'], expected ['y']"),
        ({"z": 1}, "got outputs ['z'], expected ['y']"),
        (None, "got a NoneType as outputs, expected a mapping of names to arrays"),
        ([ONES], "got a list as outputs, expected a mapping of names to arrays"),
    ],
)
def test_the_outputs_are_those_declared(engine, result, text):
    assert refusal(lambda: engine(lambda _: result).execute([ONES])) == text


@pytest.mark.parametrize(
    "view", [lambda x: x, lambda x: x[::-1], lambda x: x[1:], lambda x: x.reshape(-1, 1)[:, 0], np.asarray]
)
def test_outputs_share_no_memory_with_inputs(engine, view):
    given = np.arange(4, dtype=np.float32)
    (y,) = engine(lambda inputs: {"y": view(inputs["x"])}).execute([given])
    assert y.tolist() == view(given).tolist()
    assert not np.shares_memory(y, given)


def test_outputs_of_bytes_share_no_memory_with_inputs(engine):
    given = np.array([b"a", b"b"], np.object_)
    tensors = [spec("x", DataType.BYTES)], [spec("y", DataType.BYTES)]
    (y,) = engine(lambda inputs: {"y": inputs["x"]}, *tensors).execute([given])
    given[0] = b"changed"
    assert y.tolist() == [b"a", b"b"]


# Errors


@pytest.mark.parametrize(
    "error", [KeyError("k"), NotFound("no row"), SystemExit(3), asyncio.CancelledError()]
)
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_what_the_function_raises_is_let_through(engine, error, kind):
    def plain(_inputs):
        raise error

    async def coroutine(_inputs):
        await asyncio.sleep(0)
        raise error

    with pytest.raises(type(error)) as caught:
        engine(plain if kind == "plain" else coroutine).execute([ONES])
    assert caught.value is error


# Coroutines and generators


async def doubling(inputs):
    await asyncio.sleep(0)
    return {"y": inputs["x"] * 2}


class Doubling:
    async def __call__(self, inputs):
        return await doubling(inputs)


@pytest.mark.parametrize("function", [doubling, functools.partial(doubling), Doubling(), Doubling().__call__])
def test_a_coroutine_function(engine, function):
    made = engine(function)
    assert not made.decoupled
    assert made.execute([ONES])[0].tolist() == [2, 2, 2]


def test_coroutines_overlap_on_one_thread(engine):
    barrier, threads = asyncio.Barrier(4), set()

    async def function(inputs):
        threads.add(threading.current_thread())
        async with asyncio.timeout(SOON):
            await barrier.wait()
        return {"y": inputs["x"] * 1}

    made = engine(function)
    callers = [threading.Thread(target=made.execute, args=([ONES],)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(SOON)
    assert not any(caller.is_alive() for caller in callers)
    assert len(threads) == 1 and threads.isdisjoint(callers)


def count_to(inputs):
    for number in range(int(inputs["x"][0])):
        yield {"y": [number]}


async def count_slowly_to(inputs):
    for number in range(int(inputs["x"][0])):
        await asyncio.sleep(0)
        yield {"y": [number]}


class Counter:
    def __call__(self, inputs):
        yield from count_to(inputs)


@pytest.mark.parametrize("function", [count_to, count_slowly_to, functools.partial(count_to), Counter()])
@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_generator_answers_any_number_of_times(engine, function, times):
    made = engine(function)
    assert made.decoupled
    given = np.array([times], np.float32)
    assert [y.tolist() for (y,) in made.stream([given])] == [[number] for number in range(times)]


def test_a_generator_that_nobody_wants_more_of_is_closed(engine):
    ended = []

    def plain(_inputs):
        try:
            while True:
                yield {"y": [1]}
        finally:
            ended.append("plain")

    async def asynchronous(_inputs):
        try:
            while True:
                yield {"y": [1]}
        finally:
            await asyncio.sleep(0)
            ended.append("async")

    for function in (plain, asynchronous):
        results = engine(function).stream([ONES])
        next(results)
        results.close()
    assert ended == ["plain", "async"]


@pytest.mark.parametrize("bad", [{"y": [1], "z": [1]}, KeyError("k")])
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_stream_ends_with_its_first_error(engine, bad, kind):
    def answers():
        yield {"y": [1]}
        if isinstance(bad, KeyError):
            raise bad
        yield bad

    def plain(_inputs):
        yield from answers()

    async def asynchronous(_inputs):
        for answer in answers():
            yield answer

    results = engine(plain if kind == "plain" else asynchronous).stream([ONES])
    assert next(results)[0].tolist() == [1]
    with pytest.raises(KeyError if isinstance(bad, KeyError) else Internal):
        next(results)
    assert list(results) == []


def test_each_kind_has_its_call(engine):
    with pytest.raises(FailedPrecondition, match="expected a call of stream"):
        engine(count_to).execute([ONES])
    with pytest.raises(FailedPrecondition, match="expected a call of execute"):
        next(engine(doubling).stream([ONES]))


# The end


def test_close_calls_on_close_once():
    calls = []
    before = set(threading.enumerate())
    made = PythonEngine(doubling, inputs=[X], outputs=[Y], on_close=lambda: calls.append(1))
    made.execute([ONES])
    made.close()
    made.close()
    assert calls == [1]
    assert set(threading.enumerate()) <= before


def test_what_on_close_raises_is_logged(caplog):
    made = PythonEngine(dict, inputs=[X], outputs=[Y], on_close=lambda: 1 / 0)
    with caplog.at_level(logging.ERROR, "yais.engines"):
        made.close()
    assert "ZeroDivisionError" in caplog.text


def test_close_cancels_coroutines():
    begun = threading.Event()

    async def function(_inputs):
        begun.set()
        await asyncio.sleep(3600)

    made = PythonEngine(function, inputs=[X], outputs=[Y])
    raised = []

    def call():
        try:
            made.execute([ONES])
        except BaseException as error:
            raised.append(type(error))

    caller = threading.Thread(target=call)
    caller.start()
    assert begun.wait(SOON)
    made.close()
    caller.join(SOON)
    assert raised == [asyncio.CancelledError]


def test_its_repr_says_what_it_takes_and_gives(engine):
    assert repr(engine(count_to)) == "<PythonEngine decoupled, x: FP32[-1] -> y: FP32[-1]>"
