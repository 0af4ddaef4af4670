"""Where OpenTelemetry's spans go: to a collector, by OTLP over HTTP or gRPC."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

__all__ = ["SPAN_DEFAULTS", "collector_provider", "span_settings"]

SPAN_DEFAULTS = {
    "url": "http://localhost:4318/v1/traces",
    "bsp_max_queue_size": "2048",
    "bsp_schedule_delay": "5000",
    "bsp_max_export_batch_size": "512",
}
"""What applies where neither `TraceOptions.otel` nor OTEL_... in the environment says: Triton's defaults."""

_EXPORTERS = {
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
}

_GRPC_URL = "http://localhost:4317"  # OpenTelemetry's default

_RESOURCE = "resource."

_SERVICE = "triton-inference-server"


def collector_provider(otel: Mapping[str, str]) -> TracerProvider:
    """Return a provider that exports to a collector. Whoever gets it shuts it down.

    Parameters
    ----------
    otel
        See `TraceOptions`. What it does not say is as the environment says in OpenTelemetry's variables:
        OTEL_EXPORTER_OTLP_..., OTEL_BSP_..., OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME,
        OTEL_RESOURCE_ATTRIBUTES.

    Raises
    ------
    ImportError
        OpenTelemetry, or its exporter, is not installed.
    ValueError
        An option is no number, or there is no such protocol.
    """
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    attributes = {"service.name": _SERVICE, **OTELResourceDetector().detect().attributes}
    attributes.update(
        {key.removeprefix(_RESOURCE): value for key, value in otel.items() if key.startswith(_RESOURCE)}
    )
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(
            _exporter(otel),
            max_queue_size=_number(otel, "bsp_max_queue_size"),
            schedule_delay_millis=_number(otel, "bsp_schedule_delay"),
            max_export_batch_size=_number(otel, "bsp_max_export_batch_size"),
        )
    )
    return provider


def span_settings(otel: Mapping[str, str]) -> dict[str, str]:
    """Return what applies: what `TraceOptions.otel` says, else the environment, else Triton's defaults.

    To a url of OTEL_EXPORTER_OTLP_ENDPOINT the exporter over HTTP adds "/v1/traces".
    """
    said = {name: os.environ.get(f"OTEL_{name.upper()}") for name in SPAN_DEFAULTS if name != "url"}
    said["url"] = _said("ENDPOINT") or (_GRPC_URL if _said("PROTOCOL") == "grpc" else None)
    return {**SPAN_DEFAULTS, **{name: value for name, value in said.items() if value}, **otel}


def _exporter(otel: Mapping[str, str]) -> Any:
    protocol = _said("PROTOCOL") or "http/protobuf"
    if protocol not in _EXPORTERS:
        expected = " or ".join(_EXPORTERS)
        raise ValueError(f"got OTEL_EXPORTER_OTLP_PROTOCOL={protocol!r}, expected {expected}")
    url = otel.get("url")
    if url is None and protocol == "http/protobuf" and not _said("ENDPOINT"):
        url = SPAN_DEFAULTS["url"]
    if url is not None and "://" not in url:
        url = f"http://{url}"
    return import_module(_EXPORTERS[protocol]).OTLPSpanExporter(endpoint=url)


def _said(what: str) -> str:
    """Return what the environment says of the exporter of traces, or of all exporters."""
    names = (f"OTEL_EXPORTER_OTLP_TRACES_{what}", f"OTEL_EXPORTER_OTLP_{what}")
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def _number(otel: Mapping[str, str], name: str) -> int | None:
    """Return a number; None, for the environment to say, if it is not given."""
    if name not in otel:
        return None
    try:
        return int(otel[name])
    except ValueError:
        raise ValueError(f"got {name}={otel[name]!r} for traces, expected a number") from None
