"""A good client, which must lose nothing while others attack."""

from __future__ import annotations

import json
import threading
import time
from http.client import HTTPConnection
from types import TracebackType
from typing import Self

import numpy as np
from serving_models import SOON, Wire, infer_request, outputs_of


class Witness:
    """Asks `simple` over gRPC and HTTP, one request after another, and checks every answer.

    Attributes
    ----------
    count
        Good answers so far.
    slowest
        Seconds that the slowest of them took.
    """

    def __init__(self, port: int, http_port: int) -> None:
        self._wire = Wire(port)
        self._http = HTTPConnection("127.0.0.1", http_port, timeout=SOON)
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="witness")
        self.count = 0
        self.slowest = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(3 * SOON)
        self._http.close()
        self._wire.channel.close()
        if error is None:
            self.check()

    @property
    def failed(self) -> bool:
        """Whether it has seen anything go wrong."""
        return self._failure is not None

    def check(self) -> None:
        """Raise what it has seen go wrong."""
        if self._failure is not None:
            raise AssertionError(f"a good client has lost answer {self.count}") from self._failure

    def _run(self) -> None:
        try:
            while not self._stop.wait(0.002):  # it is no load
                begun = time.monotonic()
                self._ask(self.count)
                self.slowest = max(self.slowest, time.monotonic() - begun)
                self.count += 1
        except BaseException as error:
            self._failure = error

    def _ask(self, number: int) -> None:
        left, right = np.arange(16, dtype=np.int32) + number, np.full(16, number, np.int32)
        if number % 2:
            request = infer_request("simple", {"INPUT0": left[None], "INPUT1": right[None]}, id=str(number))
            response = self._wire.infer(request)
            asked, got = response.id, {name: array[0] for name, array in outputs_of(response).items()}
        else:
            asked, got = self._over_http(number, left, right)
        assert asked == str(number)
        np.testing.assert_array_equal(got["OUTPUT0"], left + right)
        np.testing.assert_array_equal(got["OUTPUT1"], left - right)

    def _over_http(
        self, number: int, left: np.ndarray, right: np.ndarray
    ) -> tuple[str, dict[str, list[int]]]:
        inputs = [
            {"name": name, "datatype": "INT32", "shape": [1, 16], "data": array.tolist()}
            for name, array in (("INPUT0", left), ("INPUT1", right))
        ]
        body = json.dumps({"id": str(number), "inputs": inputs})
        self._http.request("POST", "/v2/models/simple/infer", body)
        reply = self._http.getresponse()
        text = reply.read()
        assert reply.status == 200, text
        said = json.loads(text)
        return said["id"], {output["name"]: output["data"] for output in said["outputs"]}
