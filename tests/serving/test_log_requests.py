"""What is logged of requests: with their ids, and those of their traces."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as triton
from gated_models import TENSORS, row, tensors, write_python
from serving_models import SOON
from traced_models import FAILING
from yais_command import Serving

from yais.serving.log_format import FORMATS, log_formatter
from yais.serving.log_handler import log_handler

PORTS = ("--grpc-address=127.0.0.1", "--grpc-port=0", "--allow-http=0", "--allow-metrics=0")
TRACED = ("mode=opentelemetry", "level=TIMESTAMPS", "rate=1", "opentelemetry,url=127.0.0.1:1/v1/traces")
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    write_python(directory, "failing", FAILING, TENSORS + "max_batch_size: 4")
    return directory


@contextmanager
def logged(repository: Path, log: Path, *arguments: str) -> Iterator[Any]:
    """Serve, and yield what asks the model, which fails; at the end all is in the log."""
    # What collects traces is not there, and nobody is to wait for it.
    environment = {"OTEL_EXPORTER_OTLP_TIMEOUT": "0.1"}
    serving = Serving(
        "--model-repository", repository, *PORTS, f"--log-file={log}", *arguments, env=environment
    )

    def ask(**options: Any) -> None:
        with (
            triton.InferenceServerClient(f"127.0.0.1:{serving.port}") as client,
            pytest.raises(triton.InferenceServerException, match="broken"),
        ):
            client.infer("failing", tensors({"x": row(1)}), client_timeout=SOON, **options)

    try:
        yield ask
    finally:
        status, errors = serving.end(signal.SIGTERM)
        assert status == 0, errors


def failures(log: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if line["message"] == "model 'failing' failed"]


def test_json(repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with logged(repository, log, "--log-format=json") as ask:
        ask(request_id="mine")
        ask()
    first, second = failures(log)
    assert first["logger"] == "yais.inference" and first["level"] == "ERROR"
    assert (first["model"], first["request_id"]) == ("failing", "mine")
    assert first["error"] == "ValueError: broken"
    assert first["traceback"].startswith("Traceback (most recent call last):")
    assert "request_id" not in second and "trace_id" not in second


def test_traced(repository: Path, tmp_path: Path) -> None:
    """By a trace of the caller's, or one that begins here."""
    log = tmp_path / "log"
    config = [word for said in TRACED for word in ("--trace-config", said)]
    with logged(repository, log, "--log-format=json", *config) as ask:
        ask(headers=CALLER)
        ask()
    first, second = failures(log)
    assert first["trace_id"] == TRACE
    assert first["span_id"] != "b7ad6b7169203331" and int(first["span_id"], 16)
    assert int(second["trace_id"], 16) and second["trace_id"] != TRACE


def test_text(repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with logged(repository, log) as ask:
        ask(request_id="mine")
    assert """] "model 'failing' failed" request_id="mine"\n""" in log.read_text()


@pytest.mark.parametrize("name", FORMATS)
def test_names_of_files_may_be_no_utf_8(tmp_path: Path, name: str) -> None:
    handler = log_handler(str(tmp_path / "log"))
    handler.setFormatter(log_formatter(name))
    try:
        fields = {"levelno": logging.ERROR, "msg": f"failed to read {os.fsdecode(bytes([255]))}"}
        handler.handle(logging.makeLogRecord(fields))
    finally:
        handler.close()
    assert "\\udcff" in (tmp_path / "log").read_text()
