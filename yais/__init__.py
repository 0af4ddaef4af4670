"""A Python framework for compute-bound gRPC microservices, and an inference server built with it.

General layout, each floor knowing only those below it (docs/architecture.md; a test checks it):

    8  tools        the command line
    7  serving      the inference server: KServe v2 over gRPC
    6  repository   model directories and their configuration
    5  inference    models, schedulers, statistics          client   models of a remote server
    4  engines      what runs a model file                  protocol messages and tensors on the wire
    4  infer_runner what runners of local and remote models have in common
    3  lane         threads and staging memory of one NUMA node
    2  rpc          contexts on completion queues           memory   buffers and where they come from
    1  core         pools, threads, futures, topology       telemetry  metrics
    0  errors
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from yais.core.affinity import affinity
from yais.core.cpu_set import CpuSet
from yais.core.future import Future
from yais.core.pool import Pool
from yais.core.thread_pool import ThreadPool
from yais.errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    Code,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unknown,
    YaisError,
)
from yais.rpc.batching_context import BatchingContext
from yais.rpc.bidirectional_context import BidirectionalContext
from yais.rpc.context import Context
from yais.rpc.interceptor import IncomingCall, Interceptor
from yais.rpc.interceptors.access_log import AccessLog
from yais.rpc.interceptors.admission import Admission
from yais.rpc.interceptors.bearer_token import BearerToken
from yais.rpc.interceptors.metrics import Metrics
from yais.rpc.interceptors.tracing import Tracing
from yais.rpc.resources import Resources
from yais.rpc.server import Server
from yais.rpc.server_streaming_context import ServerStreamingContext
from yais.rpc.service import Service
from yais.rpc.stream import Stream
from yais.rpc.streaming_context import StreamingContext
from yais.rpc.tls import Tls
from yais.rpc.transport import Transport

if TYPE_CHECKING:
    from yais.client.remote import RemoteInferenceManager
    from yais.core.tensor import DataType, TensorSpec
    from yais.inference.manager import InferenceManager

__version__ = "0.1.0"

__all__ = [
    "Aborted",
    "AccessLog",
    "Admission",
    "AlreadyExists",
    "BatchingContext",
    "BearerToken",
    "BidirectionalContext",
    "Cancelled",
    "Code",
    "Context",
    "CpuSet",
    "DataLoss",
    "DataType",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Future",
    "IncomingCall",
    "InferenceManager",
    "Interceptor",
    "Internal",
    "InvalidArgument",
    "Metrics",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "Pool",
    "RemoteInferenceManager",
    "ResourceExhausted",
    "Resources",
    "Server",
    "ServerStreamingContext",
    "Service",
    "Stream",
    "StreamingContext",
    "TensorSpec",
    "ThreadPool",
    "Tls",
    "Tracing",
    "Transport",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "YaisError",
    "affinity",
]

# Imported when first used: a service without models needs neither numpy nor the messages of the protocol.
_LATER = {
    "DataType": "yais.core.tensor",
    "InferenceManager": "yais.inference.manager",
    "RemoteInferenceManager": "yais.client.remote",
    "TensorSpec": "yais.core.tensor",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'yais' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
