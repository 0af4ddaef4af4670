"""Options of perf_analyzer that `yais perf` has not: what is said when somebody gives one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from yais.tools.option_groups import with_options

__all__ = ["refused_options"]

F = TypeVar("F", bound=Callable[..., Any])

_TLS = "use --tls, --ca, --cert and --key"
_SEQUENCES = "sequences are not measured"
_SERVICE = "only servers of the KServe v2 protocol are measured"
_TRACES = "the server's trace settings say what is traced"
_METRICS = "a server's metrics are for Prometheus"
_FORMAT = "tensors are sent as they are in memory"

_REFUSED = {
    "periodic-concurrency-range": "use --concurrency-range",
    "request-period": "use --concurrency-range",
    "request-intervals": "use --request-rate-range, or yais siege --func",
    "request-count": "use --measurement-mode=count_windows, or yais client-async --count",
    "warmup-request-count": "send some before, with yais client-async --count",
    "session-concurrency": "use --concurrency-range",
    "request-parameter": "requests are sent without parameters",
    "sequence-length": _SEQUENCES,
    "sequence-length-variation": _SEQUENCES,
    "sequence-id-range": _SEQUENCES,
    "num-of-sequences": _SEQUENCES,
    "service-kind": _SERVICE,
    "grpc-method": _SERVICE,
    "endpoint": _SERVICE,
    "model-signature-name": _SERVICE,
    "triton-server-directory": _SERVICE,
    "model-repository": _SERVICE,
    "bls-composing-models": "the models that a model calls are not known to its server",
    "grpc-compression-algorithm": "requests are sent as they are",
    "input-tensor-format": _FORMAT,
    "output-tensor-format": _FORMAT,
    "profile-export-file": "use --json, or yais siege --hgrm",
    "trace-level": _TRACES,
    "trace-rate": _TRACES,
    "trace-count": _TRACES,
    "log-frequency": _TRACES,
    "metrics-url": _METRICS,
    "metrics-interval": _METRICS,
    "ssl-grpc-root-certifications-file": _TLS,
    "ssl-grpc-private-key-file": _TLS,
    "ssl-grpc-certificate-chain-file": _TLS,
    "ssl-https-verify-peer": _TLS,
    "ssl-https-verify-host": _TLS,
    "ssl-https-ca-certificates-file": _TLS,
    "ssl-https-client-certificate-file": _TLS,
    "ssl-https-client-certificate-type": _TLS,
    "ssl-https-private-key-file": _TLS,
    "ssl-https-private-key-type": _TLS,
}
"""Why, or what to use instead."""

_FLAGS = {
    "fixed-schedule": "use --request-rate-range, or yais siege --func",
    "serial-sequences": _SEQUENCES,
    "enable-mpi": "one process measures one model",
    "collect-metrics": _METRICS,
    "ssl-grpc-use-ssl": _TLS,
}

_OPTIONS = [
    *(click.option(f"--{name}", hidden=True, multiple=True, help=why) for name, why in _REFUSED.items()),
    *(click.option(f"--{name}", hidden=True, is_flag=True, help=why) for name, why in _FLAGS.items()),
]


def refused_options(command: F) -> F:
    """Give a command the options, none of which it gets; `--service-kind triton` is what there is."""

    @with_options(_OPTIONS)
    @wraps(command)
    def given(*arguments: Any, **others: Any) -> Any:
        for option, why in {**_REFUSED, **_FLAGS}.items():
            value = others.pop(option.replace("-", "_"))
            if value and (option, value) != ("service-kind", ("triton",)):
                raise click.UsageError(f"--{option} is not supported: {why}")
        return command(*arguments, **others)

    return given  # type: ignore[return-value]  # its parameters are those of the options
