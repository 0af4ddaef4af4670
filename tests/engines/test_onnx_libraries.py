"""What ONNX Runtime needs for GPUs, and what it is not to do by itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import onnxruntime as ort
import pytest
from small_models import three_outputs

from yais.engines import onnx
from yais.engines.onnx import OnnxEngine, OnnxOptions
from yais.engines.onnx_libraries import load_cuda_libraries
from yais.engines.onnx_options import OnnxProvider
from yais.errors import InvalidArgument


@pytest.fixture(autouse=True)
def at_first() -> Iterator[None]:
    load_cuda_libraries.cache_clear()
    yield
    load_cuda_libraries.cache_clear()


def test_a_gpu_provider_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    session, asked, loaded = ort.InferenceSession, [], []

    def without(source: Any, options: Any, *, providers: Any, **others: Any) -> Any:
        asked.append((providers, others))
        return session(source, options, providers=["CPUExecutionProvider"], **others)

    monkeypatch.setattr(ort, "InferenceSession", without)
    monkeypatch.setattr(ort, "preload_dlls", lambda: loaded.append(1))
    there = frozenset({"CUDAExecutionProvider", "CPUExecutionProvider"})
    monkeypatch.setattr(onnx, "available_providers", lambda: there)
    cuda = OnnxProvider("CUDAExecutionProvider", {"device_id": "1"})
    for _ in range(2):
        with pytest.raises(InvalidArgument, match=r"cannot start CUDA.*pip install 'onnxruntime-gpu\[cuda"):
            OnnxEngine(three_outputs(), OnnxOptions(providers=(cuda,)))
    wanted = [("CUDAExecutionProvider", {"device_id": "1"}), "CPUExecutionProvider"]
    assert asked == [(wanted, {"enable_fallback": 0})] * 2
    assert loaded == [1]


def test_models_of_cpus_need_no_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "preload_dlls", lambda: pytest.fail("CUDA is loaded"))
    engine = OnnxEngine(three_outputs(), OnnxOptions(intra_op_threads=1))
    assert engine.session._enable_fallback is False
    engine.close()


def test_what_lacks_is_logged_and_not_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def load() -> None:
        print("Failed to load libcublas.so.12: no such file")
        raise RuntimeError("odd")

    monkeypatch.setattr(ort, "preload_dlls", load)
    with caplog.at_level(logging.WARNING, "yais.engines"):
        load_cuda_libraries()
        load_cuda_libraries()
    assert capsys.readouterr().out == ""
    assert [record.getMessage() for record in caplog.records] == [
        "ONNX Runtime cannot load the libraries of CUDA",
        "ONNX Runtime: Failed to load libcublas.so.12: no such file",
    ]


def test_an_older_onnx_runtime_has_nothing_to_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ort, "preload_dlls", raising=False)
    load_cuda_libraries()


def test_the_real_one_loads_nothing_without_cuda(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    load_cuda_libraries()
    assert capsys.readouterr().out == "" and caplog.records == []
