"""The response cache: what is found again, what it holds, and what its answers share."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from yais.core.tensor import DataType, TensorSpec
from yais.inference.cached_response import CachedResponse, cached_size
from yais.inference.layout import Signature
from yais.inference.request import InferRequest, InferResponse, ResponseForm
from yais.inference.response_cache import ResponseCache

SOON = 20.0

X = TensorSpec("X", DataType.FP32, (-1,))
T = TensorSpec("T", DataType.BYTES, (-1,))
Y = TensorSpec("Y", DataType.FP32, (-1,))
Z = TensorSpec("Z", DataType.BYTES, (-1,))
SIGNATURE = Signature("M", (X, T), (Y, Z), max_batch=0)


def texts(*elements: bytes) -> Any:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return array


def request(
    numbers: Sequence[float] = (1.0, 2.0), words: Sequence[bytes] = (b"a",), **others: Any
) -> InferRequest:
    specs = [TensorSpec("X", DataType.FP32, (len(numbers),)), TensorSpec("T", DataType.BYTES, (len(words),))]
    return InferRequest(specs, [np.array(numbers, np.float32).tobytes(), texts(*words)], **others)


def response(content: bytes = b"12345678", words: Sequence[bytes] = (b"yes",)) -> InferResponse:
    specs = (
        TensorSpec("Y", DataType.FP32, (len(content) // 4,)),
        TensorSpec("Z", DataType.BYTES, (len(words),)),
    )
    return InferResponse(ResponseForm("M", "1", specs), "first", [memoryview(content), texts(*words)])


def key(
    cache: ResponseCache, asked: InferRequest, model: Any = "M", signature: Signature = SIGNATURE
) -> bytes:
    return cache.key(model, asked, signature.layout(asked))


@pytest.fixture
def cache() -> ResponseCache:
    return ResponseCache(1 << 20)


# --- Keys ---------------------------------------------------------------------------------------------


def test_the_same_request_has_the_same_key(cache: ResponseCache) -> None:
    first = key(cache, request(id="a", priority=1, timeout=5, parameters={"x": 1}, arrays=True))
    assert first == key(cache, request(id="b"))
    assert first == key(cache, request(outputs=("Y", "Z"))), "all outputs, in the model's order"


def test_keys_do_not_depend_on_the_order_of_inputs(cache: ResponseCache) -> None:
    one = request()
    other = InferRequest(one.inputs[::-1], one.data[::-1])
    assert key(cache, one) == key(cache, other)


def test_keys_do_not_depend_on_the_form_of_contents(cache: ResponseCache) -> None:
    plain = request([1.0, 2.0, 3.0, 4.0], [b"a", b"b"])
    content = plain.data[0]
    assert isinstance(content, bytes)
    for numbers in (memoryview(bytearray(content)), np.frombuffer(content, np.float32)):
        for words in (texts(b"a", b"b"), [b"a", b"b"]):
            asked = InferRequest(plain.inputs, [numbers, words])  # type: ignore[list-item]
            assert key(cache, asked) == key(cache, plain)
    matrix = Signature("N", (TensorSpec("X", DataType.FP32, (2, 2)),), (Y,), max_batch=0)
    inputs = [TensorSpec("X", DataType.FP32, (2, 2))]
    flat = InferRequest(inputs, [content])
    shaped = InferRequest(inputs, [np.frombuffer(content, np.float32).reshape(2, 2)])
    assert key(cache, flat, signature=matrix) == key(cache, shaped, signature=matrix)


@pytest.mark.parametrize(
    "other",
    [
        request([1.0, 3.0]),
        request([1.0, 2.0, 3.0]),
        request([]),
        request(words=[b"b"]),
        request(words=[]),
        request(words=[b"a", b""]),
        request(outputs=("Y",)),
        request(outputs=("Z",)),
        request(outputs=("Z", "Y")),
    ],
)
def test_other_requests_have_other_keys(cache: ResponseCache, other: InferRequest) -> None:
    assert key(cache, other) != key(cache, request())
    assert key(cache, other) == key(cache, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [([b"ab", b"c"], [b"a", b"bc"]), ([b"", b"a"], [b"a", b""]), ([b"a\0"], [b"a"]), ([b"", b""], [b""])],
)
def test_texts_are_told_apart_by_their_elements(
    cache: ResponseCache, one: list[bytes], other: list[bytes]
) -> None:
    assert key(cache, request(words=one)) != key(cache, request(words=other))


def test_equal_bytes_of_another_shape_type_or_name_are_another_request(cache: ResponseCache) -> None:
    keys = set()
    for name in ("A", "B"):
        for datatype in (DataType.FP32, DataType.INT32):
            for shape in ((4, 1), (2, 2), (1, 4)):
                spec = TensorSpec(name, datatype, shape)
                signature = Signature("N", (spec,), (Y,), max_batch=0)
                keys.add(key(cache, InferRequest([spec], [bytes(16)]), signature=signature))
    assert len(keys) == 12


def test_contents_of_two_inputs_are_not_mixed_up(cache: ResponseCache) -> None:
    specs = [TensorSpec("A", DataType.FP32, (1,)), TensorSpec("B", DataType.FP32, (1,))]
    signature = Signature("N", tuple(specs), (Y,), max_batch=0)
    one = InferRequest(specs, [b"1234", b"5678"])
    other = InferRequest(specs, [b"5678", b"1234"])
    assert key(cache, one, signature=signature) != key(cache, other, signature=signature)


def test_models_do_not_answer_for_each_other(cache: ResponseCache) -> None:
    assert key(cache, request(), ("M", 1)) != key(cache, request(), ("M", 2))
    cache.put(key(cache, request(), ("M", 1)), response())
    assert cache.get(key(cache, request(), ("M", 2))) is None
    assert cache.get(key(cache, request(), ("M", 1))) is not None


words = st.lists(st.binary(max_size=3), max_size=3)


@given(one=words, other=words)
def test_keys_are_equal_if_and_only_if_texts_are(one: list[bytes], other: list[bytes]) -> None:
    cache = ResponseCache(1000)
    assert (key(cache, request(words=one)) == key(cache, request(words=other))) == (one == other)


# --- Answers ------------------------------------------------------------------------------------------


def test_an_answer_is_the_response_with_the_id_of_the_request(cache: ResponseCache) -> None:
    kept = response()
    cache.put(key(cache, request()), kept)
    asked = request(id="second")
    found = cache.get(key(cache, asked))
    assert found is not None
    answer = found.response(asked)
    assert answer.id == "second" and answer.form is kept.form
    assert isinstance(answer.data[0], memoryview) and answer.data[0] == b"12345678"
    assert answer.data[0].format == "B" and answer.data[0].ndim == 1
    assert isinstance(answer.data[1], np.ndarray) and answer.data[1].tolist() == [b"yes"]


@given(
    datatype=st.sampled_from([datatype for datatype in DataType if datatype.size]),
    shape=nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_every_type_comes_back_as_bytes_and_as_an_array(
    datatype: DataType, shape: tuple[int, ...], data: st.DataObject
) -> None:
    array = np.frombuffer(
        data.draw(st.binary(min_size=(n := int(np.prod(shape)) * datatype.size), max_size=n)), datatype.numpy
    ).reshape(shape)
    form = ResponseForm("M", "1", (TensorSpec("Y", datatype, shape),))
    flat = memoryview(array.tobytes())
    for given_ in (array, flat):
        kept = CachedResponse(InferResponse(form, "", [given_]))
        (plain,) = kept.response(InferRequest([], [])).data
        (shaped,) = kept.response(InferRequest([], [], arrays=True)).data
        assert isinstance(plain, memoryview) and plain.nbytes == len(plain) and plain == flat
        assert isinstance(shaped, np.ndarray) and shaped.shape == shape and shaped.dtype == datatype.numpy
        assert shaped.tobytes() == flat.tobytes()


@pytest.mark.parametrize("shape", [(2, 3), (6,), (0,), (2, 0), ()])
def test_texts_come_back_flat_and_as_an_array(shape: tuple[int, ...]) -> None:
    elements = [b"%d\0" % number for number in range(int(np.prod(shape)))]
    form = ResponseForm("M", "1", (TensorSpec("Z", DataType.BYTES, shape),))
    for given_ in (texts(*elements), texts(*elements).reshape(shape)):
        kept = CachedResponse(InferResponse(form, "", [given_]))
        (plain,) = kept.response(InferRequest([], [])).data
        (shaped,) = kept.response(InferRequest([], [], arrays=True)).data
        assert isinstance(plain, np.ndarray) and plain.shape == (len(elements),)
        assert isinstance(shaped, np.ndarray) and shaped.shape == shape
        assert plain.tolist() == shaped.ravel().tolist() == elements


def test_what_is_kept_is_not_the_memory_of_the_response(cache: ResponseCache) -> None:
    memory, elements = bytearray(b"12345678"), texts(b"yes")
    specs = response().form.outputs
    name = key(cache, request())
    cache.put(name, InferResponse(ResponseForm("M", "1", specs), "", [memoryview(memory), elements]))
    memory[:] = b"overwrit"
    elements[0] = b"no"
    kept = cache.get(name)
    assert kept is not None
    answer = kept.response(request())
    assert answer.data[0] == b"12345678" and answer.data[1].tolist() == [b"yes"]


def test_nobody_can_change_what_is_kept(cache: ResponseCache) -> None:
    name = key(cache, request())
    cache.put(name, response())
    kept = cache.get(name)
    assert kept is not None
    plain, shaped = kept.response(request()), kept.response(request(arrays=True))
    assert isinstance(plain.data[0], memoryview) and plain.data[0].readonly
    numbers = shaped.data[0]
    assert isinstance(numbers, np.ndarray) and not numbers.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        numbers.flags.writeable = True
    for answer in (plain, shaped):
        answer.data[1][0] = b"no"  # type: ignore[index]
    assert kept.response(request()).data[1].tolist() == [b"yes"]


# --- Sizes --------------------------------------------------------------------------------------------


def test_the_least_recently_asked_for_makes_room() -> None:
    size = cached_size(response())
    cache = ResponseCache(3 * size + size // 2)
    names = [key(cache, request([number])) for number in range(4)]
    for name in names[:3]:
        cache.put(name, response())
    assert cache.get(names[0]) is not None
    cache.put(names[3], response())
    assert [cache.get(name) is not None for name in names] == [True, False, True, True]
    now = cache.statistics()
    assert (now.size, now.used, now.entries) == (3 * size + size // 2, 3 * size, 3)
    assert (now.hits, now.misses, now.evictions) == (4, 1, 1)


def test_a_large_response_makes_room_for_itself_or_is_left_out() -> None:
    small, large = response(), response(bytes(4000))
    cache = ResponseCache(cached_size(large))
    names = [key(cache, request([number])) for number in range(6)]
    for name in names[:4]:
        cache.put(name, small)
    assert cache.statistics().entries == 4
    cache.put(names[4], large)
    now = cache.statistics()
    assert (now.entries, now.used, now.evictions) == (1, now.size, 4)
    cache.put(names[5], response(bytes(4004)))
    assert cache.get(names[5]) is None and cache.get(names[4]) is not None
    assert cache.statistics().evictions == 4


def test_a_response_is_kept_once(cache: ResponseCache) -> None:
    name = key(cache, request())
    cache.put(name, response())
    used = cache.statistics().used
    cache.put(name, response())
    now = cache.statistics()
    assert (now.entries, now.used) == (1, used) and used == cached_size(response())


@pytest.mark.parametrize("content", [8, 100_000])
@pytest.mark.parametrize("number", [1, 50])
def test_sizes_are_honest(content: int, number: int) -> None:
    # All that is kept, keys, forms and lists included, is less than what is counted.
    cache = ResponseCache(1 << 30)
    name = key(cache, request())
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for index in range(50):
            given_ = response(bytes(content), [b"%06d" % (index * 1000 + each) for each in range(number)])
            cache.put(name[:8] + index.to_bytes(32, "big"), given_)
        del given_
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    used = cache.statistics().used
    assert cache.statistics().entries == 50
    assert used / 2.5 < taken < used


@pytest.mark.parametrize("size", [0, -1])
def test_sizes_are_checked(size: int) -> None:
    with pytest.raises(ValueError, match=f"^got a response cache of {size} bytes, expected at least 1$"):
        ResponseCache(size)


def test_repr_is_a_status_line() -> None:
    cache = ResponseCache(10_000)
    name = key(cache, request())
    cache.get(name)
    cache.put(name, response())
    cache.get(name)
    used = cached_size(response())
    assert repr(cache) == (
        f"<ResponseCache: 1 responses in {used} of 10000 bytes, 1 hits, 1 misses, 0 evictions>"
    )


# --- Models that go -----------------------------------------------------------------------------------


def test_a_dropped_model_is_forgotten(cache: ResponseCache) -> None:
    one, other = key(cache, request(), "one"), key(cache, request(), "other")
    cache.put(one, response())
    cache.put(other, response())
    cache.drop("one")
    assert cache.get(one) is None and cache.get(other) is not None
    assert (cache.statistics().entries, cache.statistics().used) == (1, cached_size(response()))
    cache.drop("one")
    cache.drop("never seen")
    assert cache.statistics().evictions == 0


def test_what_comes_after_the_model_went_is_not_kept(cache: ResponseCache) -> None:
    late = key(cache, request())
    cache.drop("M")
    cache.put(late, response())
    assert cache.statistics().entries == 0
    again = key(cache, request())  # loaded again: another model
    assert again != late
    cache.put(late, response())
    assert cache.get(again) is None and cache.statistics().entries == 0


class Interrupted(np.ndarray):
    """An array while which is copied something else happens."""

    def tobytes(self, *arguments: Any) -> bytes:
        self.meanwhile()
        return super().tobytes(*arguments)


@pytest.mark.parametrize(("by", "entries"), [("put", 1), ("drop", 0)])
def test_what_others_do_while_a_response_is_copied(cache: ResponseCache, by: str, entries: int) -> None:
    name = key(cache, request())
    numbers = np.frombuffer(b"12345678", np.float32).view(Interrupted)
    numbers.meanwhile = {"put": lambda: cache.put(name, response()), "drop": lambda: cache.drop("M")}[by]
    given_ = response()
    cache.put(name, InferResponse(given_.form, "", [numbers, given_.data[1]]))
    now = cache.statistics()
    assert (now.entries, now.used) == (entries, entries * cached_size(given_))


# --- At random ----------------------------------------------------------------------------------------


class CacheMachine(RuleBasedStateMachine):
    """Puts, lookups and drops against a list in the order of use."""

    @initialize(size=st.integers(1, 8000))
    def begin(self, size: int) -> None:
        self.cache = ResponseCache(size)
        self.size = size
        self.order: list[tuple[str, int, InferResponse]] = []
        self.hits = self.misses = self.evictions = 0

    def name(self, model: str, number: int) -> bytes:
        return key(self.cache, request([number]), model)

    def kept(self, model: str, number: int) -> tuple[str, int, InferResponse] | None:
        return next((entry for entry in self.order if entry[:2] == (model, number)), None)

    def used(self) -> int:
        return sum(cached_size(entry[2]) for entry in self.order)

    @rule(model=st.sampled_from("ab"), number=st.integers(0, 5), length=st.integers(0, 1000))
    def put(self, model: str, number: int, length: int) -> None:
        given_ = response(bytes([number]) * 4 * length)
        self.cache.put(self.name(model, number), given_)
        if self.kept(model, number) is None and cached_size(given_) <= self.size:
            while self.used() + cached_size(given_) > self.size:
                self.order.pop(0)
                self.evictions += 1
            self.order.append((model, number, given_))

    @rule(model=st.sampled_from("ab"), number=st.integers(0, 5))
    def get(self, model: str, number: int) -> None:
        found = self.cache.get(self.name(model, number))
        entry = self.kept(model, number)
        assert (found is None) == (entry is None)
        if found is None or entry is None:
            self.misses += 1
            return
        self.hits += 1
        self.order.remove(entry)
        self.order.append(entry)
        assert found.response(request()).data[0] == entry[2].data[0]

    @rule(model=st.sampled_from("ab"))
    def drop(self, model: str) -> None:
        self.cache.drop(model)
        self.order = [entry for entry in self.order if entry[0] != model]

    @invariant()
    def numbers_are_right(self) -> None:
        if hasattr(self, "cache"):
            now = self.cache.statistics()
            assert now.used == self.used() <= now.size == self.size
            assert now.entries == len(self.order)
            assert (now.hits, now.misses, now.evictions) == (self.hits, self.misses, self.evictions)


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


# --- Threads ------------------------------------------------------------------------------------------


def test_many_threads() -> None:
    size = cached_size(response())
    cache = ResponseCache(20 * size)
    stop = threading.Event()
    problems: list[object] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        try:
            for _ in range(1500):
                number = int(random.integers(40))
                model = number % 3
                asked = request([number], id=str(number))
                name = key(cache, asked, model)
                found = cache.get(name)
                if found is None:
                    cache.put(name, response(np.full(2, number, np.float32).tobytes()))
                elif found.response(asked).data[0] != np.full(2, number, np.float32).tobytes():
                    problems.append(number)
                if random.random() < 0.01:
                    cache.drop(model)
        except Exception as error:
            problems.append(error)

    def watch() -> None:
        while not stop.is_set():
            now = cache.statistics()
            if not (0 <= now.used <= now.size and now.used == now.entries * size):
                problems.append(now)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    watcher = threading.Thread(target=watch)
    for thread in (*threads, watcher):
        thread.start()
    for thread in threads:
        thread.join(SOON)
    stop.set()
    watcher.join(SOON)
    assert not any(thread.is_alive() for thread in (*threads, watcher))
    assert problems == []
    now = cache.statistics()
    assert now.hits + now.misses == 6000 and now.hits > 0 and now.evictions > 0
    for model in range(3):
        cache.drop(model)
    assert (cache.statistics().entries, cache.statistics().used) == (0, 0)
