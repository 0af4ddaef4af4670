"""The inputs of requests as arrays: of one without a copy, of several as one batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yais.core.tensor import DataType, TensorSpec
from yais.inference.gather import gather, staging_size, views
from yais.inference.job import Job
from yais.inference.layout import Signature
from yais.inference.request import InferRequest
from yais.memory.arena import Arena
from yais.memory.host import HostMemoryResource
from yais.protocol.tensor_codec import objects

A = TensorSpec("A", DataType.FP32, (3,))
B = TensorSpec("B", DataType.INT16, (-1,))
S = TensorSpec("S", DataType.BYTES, (2,))
SIGNATURE = Signature("M", (A, B, S), (), max_batch=100, optional=frozenset("ABS"))


def job(tensors: dict[str, Any], *, as_arrays: bool = False, signature: Signature = SIGNATURE) -> Job:
    """Return a checked request with these tensors, in this order."""
    datatypes = {spec.name: spec.datatype for spec in signature.inputs}
    specs = [TensorSpec(name, datatypes[name], array.shape) for name, array in tensors.items()]
    data = [
        array if as_arrays else array.ravel() if array.dtype.hasobject else array.tobytes()
        for array in tensors.values()
    ]
    request = InferRequest(specs, data)
    layout = signature.layout(request)
    signature.check_sizes(layout, specs, data)
    return Job(request, layout, 0)


def tensor(name: str, batch: int, seed: int) -> Any:
    random = np.random.default_rng(seed)
    if name == "S":
        texts = [bytes([value]) * 3 for value in random.integers(0, 256, 2 * batch).tolist()]
        return objects(texts).reshape(batch, 2)
    if name == "A":
        return random.random((batch, 3)).astype(np.float32)
    return random.integers(-100, 100, (batch, 5)).astype(np.int16)


def gathered(jobs: list[Job]) -> list[Any]:
    arena = Arena(HostMemoryResource(), staging_size(SIGNATURE.inputs, jobs))
    return gather(SIGNATURE.inputs, jobs, arena)


@st.composite
def jobs_of_one_group(draw: st.DrawFn) -> tuple[str, list[dict[str, Any]], list[Job]]:
    names = draw(st.sets(st.sampled_from("ABS")))
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    contents, jobs = [], []
    for size in sizes:
        order = draw(st.permutations(sorted(names)))
        contents.append({name: tensor(name, size, draw(st.integers(0, 1000))) for name in order})
        jobs.append(job(contents[-1], as_arrays=draw(st.booleans())))
    return "".join(names), contents, jobs


@given(jobs_of_one_group())
def test_a_batch_holds_the_requests_one_after_the_other(
    drawn: tuple[str, list[dict[str, Any]], list[Job]],
) -> None:
    names, contents, jobs = drawn
    assert len({job.group for job in jobs}) == 1
    for name, array in zip("ABS", gathered(jobs), strict=True):
        if name not in names:
            assert array is None
        else:
            expected = np.concatenate([tensors[name] for tensors in contents])
            assert array.dtype == expected.dtype and np.array_equal(array, expected)


@given(jobs_of_one_group())
def test_views_of_one_request(drawn: tuple[str, list[dict[str, Any]], list[Job]]) -> None:
    names, contents, jobs = drawn
    for tensors, single in zip(contents, jobs, strict=True):
        for name, array in zip("ABS", views(SIGNATURE.inputs, single), strict=True):
            if name not in names:
                assert array is None
            else:
                assert array is not None and np.array_equal(array, tensors[name])
                assert array.shape == tensors[name].shape and array.dtype == tensors[name].dtype


@pytest.mark.parametrize("as_arrays", [False, True])
def test_views_copy_nothing(as_arrays: bool) -> None:
    single = job({"B": tensor("B", 2, 0), "A": tensor("A", 2, 0)}, as_arrays=as_arrays)
    a, b, s = views(SIGNATURE.inputs, single)
    assert a is not None and b is not None and s is None
    data = single.request.data
    given_a, given_b = (item if as_arrays else np.frombuffer(item, np.uint8) for item in data[::-1])  # type: ignore[arg-type]
    assert np.shares_memory(a, given_a) and np.shares_memory(b, given_b)


def test_the_size_is_what_gathering_takes() -> None:
    jobs = [job({"A": tensor("A", 3, 0), "S": tensor("S", 3, 0)}) for _ in range(4)]
    assert staging_size(SIGNATURE.inputs, jobs) == 192  # 4 * 3 * 3 * 4 bytes of A, padded; none of S and B
    arena = Arena(HostMemoryResource(), 192)
    gather(SIGNATURE.inputs, jobs, arena)
    with pytest.raises(MemoryError):
        arena.take(49)  # 144 bytes are taken
    assert staging_size(SIGNATURE.inputs, [job({"S": tensor("S", 1, 0)})]) == 0
