"""Ask a running yais in every way that releases of tritonclient have had since the first one.

scripts/old-tritonclient starts it, in environments that have nothing but one release of tritonclient, with a
server in mode explicit of examples/models and tritonclient_models. It prints a table; the exit status says
whether all is as it should be. What a release cannot ask is said to be so.
"""

from __future__ import annotations

import argparse
import inspect
import os
import queue
import sys
import time
import traceback
from importlib.metadata import version

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException, shared_memory

SOON = 20.0
MODELS = ("simple", "text", "scores")

ROW = np.arange(16, dtype=np.int32).reshape(1, 16)
THREES = np.full((1, 16), 3, np.int32)
# Not as objects, of which the first releases send what `str` makes of them.
TEXTS = np.array([[b"", b"a\0b", "größer".encode(), b"x" * 5000]], dtype=np.bytes_)


class NotInThisRelease(Exception):
    """The client cannot ask that."""


class Check:
    """Everything that one of the two clients can ask; `kind` is its module."""

    def __init__(self, kind, url: str) -> None:
        self.kind = kind
        self.is_grpc = kind is tritonclient.grpc
        self.client = kind.InferenceServerClient(url)

    def close(self) -> None:
        self.client.close()

    def simple(self, **options):
        inputs = []
        for name, array in (("INPUT0", ROW), ("INPUT1", THREES)):
            each = self.kind.InferInput(name, [1, 16], "INT32")
            each.set_data_from_numpy(array, **options)
            inputs.append(each)
        return inputs

    def added(self, result, *, reads=True) -> None:
        assert np.array_equal(result.as_numpy("OUTPUT0"), ROW + THREES), result.as_numpy("OUTPUT0")
        if reads:
            assert np.array_equal(result.as_numpy("OUTPUT1"), ROW - THREES), result.as_numpy("OUTPUT1")

    def needs(self, function: str, parameter: str = "") -> None:
        """Leave a check that this release has no function for."""
        if not hasattr(self.client, function):
            raise NotInThisRelease
        if parameter and parameter not in inspect.signature(getattr(self.client, function)).parameters:
            raise NotInThisRelease

    # What is checked, in this order.

    def check_health(self) -> None:
        assert self.client.is_server_live()
        assert self.client.is_server_ready()

    def check_control(self) -> None:
        for model in MODELS:
            self.client.load_model(model)
            assert self.client.is_model_ready(model)
            assert self.client.is_model_ready(model, "1")
        self.client.unload_model("scores")
        until = time.monotonic() + SOON
        while self.client.is_model_ready("scores"):
            assert time.monotonic() < until, "it is not unloaded"
            time.sleep(0.01)
        self.client.load_model("scores")

    def check_index(self) -> None:
        index = self.client.get_model_repository_index()
        entries = (
            {each.name: each.state for each in index.models}
            if self.is_grpc
            else {each["name"]: each.get("state") for each in index}
        )
        assert all(entries[model] == "READY" for model in MODELS), index

    def check_metadata(self) -> None:
        options = {"as_json": True} if self.is_grpc else {}
        server = self.client.get_server_metadata(**options)
        assert {"classification", "statistics"} <= set(server["extensions"]), server
        model = self.client.get_model_metadata("simple", **options)
        assert {each["name"] for each in model["inputs"]} == {"INPUT0", "INPUT1"}, model
        assert {each["datatype"] for each in model["outputs"]} == {"INT32"}, model

    def check_config(self) -> None:
        if self.is_grpc:
            config = self.client.get_model_config("simple", as_json=True)["config"]
        else:
            config = self.client.get_model_config("simple")
        assert config["name"] == "simple"
        assert config["max_batch_size"] == 64, config

    def check_infer(self) -> None:
        self.added(self.client.infer("simple", self.simple()))
        outputs = [self.kind.InferRequestedOutput("OUTPUT0")]
        result = self.client.infer(
            "simple", self.simple(), outputs=outputs, request_id="7", model_version="1"
        )
        self.added(result, reads=False)
        response = result.get_response()
        assert (response.id if self.is_grpc else response["id"]) == "7"
        assert result.as_numpy("OUTPUT1") is None

    def check_json(self) -> None:
        if self.is_grpc:
            raise NotInThisRelease  # nor in any other
        outputs = [self.kind.InferRequestedOutput(f"OUTPUT{i}", binary_data=False) for i in (0, 1)]
        self.added(self.client.infer("simple", self.simple(binary_data=False), outputs=outputs))

    def check_async(self) -> None:
        if not self.is_grpc:
            asked = [self.client.async_infer("simple", self.simple()) for _ in range(8)]
            for each in asked:
                self.added(each.get_result(timeout=SOON))
            return
        results = queue.Queue()
        for _ in range(8):
            self.client.async_infer(
                "simple", self.simple(), lambda result, error: results.put((result, error))
            )
        self.taken(results, 8)

    def check_stream(self) -> None:
        self.needs("start_stream")
        results = queue.Queue()
        self.client.start_stream(lambda result, error: results.put((result, error)))
        for _ in range(8):
            self.client.async_stream_infer("simple", self.simple())
        self.taken(results, 8)
        self.client.async_stream_infer("absent", self.simple())
        _, error = results.get(timeout=SOON)
        assert "absent" in str(error), error
        self.client.stop_stream()

    def taken(self, results, count: int) -> None:
        for _ in range(count):
            result, error = results.get(timeout=SOON)
            assert error is None, error
            self.added(result)

    def check_bytes(self) -> None:
        text = self.kind.InferInput("TEXT", [1, 4], "BYTES")
        text.set_data_from_numpy(TEXTS)
        assert self.client.infer("text", [text]).as_numpy("SAME").tolist() == TEXTS.tolist()

    def check_classification(self) -> None:
        scores = self.kind.InferInput("SCORES", [2, 4], "FP32")
        scores.set_data_from_numpy(np.array([[1, 4, 2, 3], [0.5, 0, 0, 0]], np.float32))
        outputs = [self.kind.InferRequestedOutput("SAME", class_count=2)]
        found = self.client.infer("scores", [scores], outputs=outputs).as_numpy("SAME")
        texts = [[each.decode() for each in row] for row in found]
        assert texts == [
            ["4.000000:1:one", "3.000000:3:three"],
            ["0.500000:0:zero", "0.000000:1:one"],
        ], texts

    def check_shared_memory(self) -> None:
        region, size = f"region_{os.getpid()}", 4 * 64
        handle = shared_memory.create_shared_memory_region(region, f"/{region}", size)
        try:
            shared_memory.set_shared_memory_region(handle, [ROW, THREES])
            # The first releases' inputs over HTTP know no offset, hence a region for each.
            for place, name in enumerate(("first", "second")):
                self.client.register_system_shared_memory(name, f"/{region}", 64, offset=64 * place)
            self.client.register_system_shared_memory("all", f"/{region}", size)
            assert self.regions() == {"first", "second", "all"}
            inputs = [self.kind.InferInput(f"INPUT{i}", [1, 16], "INT32") for i in (0, 1)]
            for name, each in zip(("first", "second"), inputs, strict=True):
                each.set_shared_memory(name, 64)
            outputs = [self.kind.InferRequestedOutput(f"OUTPUT{i}") for i in (0, 1)]
            for place, each in enumerate(outputs):
                each.set_shared_memory("all", 64, offset=128 + 64 * place)
            self.client.infer("simple", inputs, outputs=outputs)
            rows = shared_memory.get_contents_as_numpy(handle, np.int32, [4, 16])
            assert np.array_equal(rows[2:], np.concatenate([ROW + THREES, ROW - THREES])), rows
            self.client.unregister_system_shared_memory("all")
            assert self.regions() == {"first", "second"}
        finally:
            self.client.unregister_system_shared_memory()
            shared_memory.destroy_shared_memory_region(handle)
        assert not self.regions()

    def regions(self):
        status = self.client.get_system_shared_memory_status()
        return set(status.regions) if self.is_grpc else {each["name"] for each in status}

    def check_cuda_status(self) -> None:
        status = self.client.get_cuda_shared_memory_status()
        assert not (status.regions if self.is_grpc else status), status
        self.client.unregister_cuda_shared_memory()

    def check_statistics(self) -> None:
        statistics = self.client.get_inference_statistics("simple")
        (model,) = statistics.model_stats if self.is_grpc else statistics["model_stats"]
        count = model.inference_count if self.is_grpc else model["inference_count"]
        assert count >= 10, statistics

    def check_errors(self) -> None:
        for wrong in (
            lambda: self.client.infer("absent", self.simple()),
            lambda: self.client.infer("simple", self.simple()[:1]),
            lambda: self.client.get_model_config("absent"),
        ):
            assert self.refusal(wrong).message()

    def refusal(self, call) -> InferenceServerException:
        try:
            call()
        except InferenceServerException as error:
            return error
        raise AssertionError("no error")

    def check_compression(self) -> None:
        if self.is_grpc:
            self.needs("infer", "compression_algorithm")
            for algorithm in ("gzip", "deflate"):
                self.added(self.client.infer("simple", self.simple(), compression_algorithm=algorithm))
            return
        self.needs("infer", "request_compression_algorithm")
        for algorithm in ("gzip", "deflate"):
            both = {f"{each}_compression_algorithm": algorithm for each in ("request", "response")}
            self.added(self.client.infer("simple", self.simple(), **both))

    def check_trace_settings(self) -> None:
        self.needs("get_trace_settings")
        assert self.client.get_trace_settings()

    def check_log_settings(self) -> None:
        self.needs("get_log_settings")
        assert self.client.get_log_settings()


def run(check: Check, name: str) -> str:
    """Make one check; return what came of it."""
    try:
        getattr(check, f"check_{name}")()
    except NotInThisRelease:
        return "-"
    except Exception:
        traceback.print_exc()
        return "FAILED"
    return "ok"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grpc", required=True, help="HOST:PORT")
    parser.add_argument("--http", required=True, help="HOST:PORT")
    options = parser.parse_args()
    kinds = (("gRPC", tritonclient.grpc, options.grpc), ("HTTP", tritonclient.http, options.http))
    names = [name.partition("_")[2] for name in vars(Check) if name.startswith("check_")]
    results = {}
    for title, kind, url in kinds:
        check = Check(kind, url)
        results[title] = {name: run(check, name) for name in names}
        check.close()
    print(f"tritonclient {version('tritonclient')}")
    for name in names:
        print(f"  {name:16} gRPC {results['gRPC'][name]:8} HTTP {results['HTTP'][name]}")
    return int(any("FAILED" in each.values() for each in results.values()))


if __name__ == "__main__":
    sys.exit(main())
