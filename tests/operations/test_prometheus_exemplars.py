"""Exemplars with a real Prometheus: it scrapes OpenMetrics, keeps them, and says which trace was slow."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from opentelemetry.sdk.trace import TracerProvider
from prometheus_session import ROOT, SOON, Session, eventually

from yais.serving.server import InferenceServer, ServerOptions
from yais.serving.trace_settings import TraceOptions

pytestmark = pytest.mark.timeout(300)

TRACE = "0af7651916cd43dd8448eb211c80319c"
METRIC = 'yais_inference_request_seconds_bucket{model="simple"}'
PROMETHEUS = (
    "prometheus --config.file=/tmp/prometheus/prometheus.yml --storage.tsdb.path=/tmp/prometheus/data "
    "--web.listen-address=127.0.0.1:9090 --enable-feature=exemplar-storage"
)


@pytest.fixture
def server() -> Iterator[InferenceServer]:
    trace = TraceOptions(
        mode="opentelemetry", level=("TIMESTAMPS",), rate=0, provider=TracerProvider(shutdown_on_exit=False)
    )
    options = ServerOptions(
        (ROOT / "examples/models",),
        grpc_address="127.0.0.1",
        grpc_port=0,
        metrics_address="127.0.0.1",
        metrics_port=0,
        trace=trace,
    )
    with InferenceServer(options) as running:
        yield running


def ask(port: int) -> None:
    inputs = [triton.InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
    for each in inputs:
        each.set_data_from_numpy(np.zeros((1, 16), np.int32))
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        client.infer("simple", inputs, headers=headers, client_timeout=SOON)


def exemplars(session: Session) -> list[Any]:
    now = time.time()
    asked = urllib.parse.urlencode({"query": METRIC, "start": now - 300, "end": now + 60})
    url = f"{session.prometheus}/api/v1/query_exemplars?{asked}"
    with urllib.request.urlopen(url, timeout=SOON) as response:
        found: list[Any] = json.load(response)["data"]
    return [exemplar for series in found for exemplar in series["exemplars"]]


def test_prometheus_knows_the_trace(server: InferenceServer, tmp_path: Path) -> None:
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {"job_name": "yais", "static_configs": [{"targets": [f"127.0.0.1:{server.metrics_port}"]}]}
        ],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    session = Session(tmp_path)
    try:
        session.start(PROMETHEUS)
        session.ready(f"{session.prometheus}/-/ready")
        ask(server.port)
        eventually(lambda: exemplars(session))
        (exemplar,) = exemplars(session)
        assert exemplar["labels"]["trace_id"] == TRACE
        assert len(exemplar["labels"]["span_id"]) == 16
        assert 0 < float(exemplar["value"]) < SOON
        # Triton's counters are there by their names, though OpenMetrics knows none such.
        eventually(lambda: session.query('nv_inference_request_success{model="simple"} == 1')["result"])
    finally:
        session.close()
