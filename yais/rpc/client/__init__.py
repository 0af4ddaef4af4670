"""Clients of RPCs, each usable blocking, with futures and callbacks, and with `await`.

    channels    connections to a server, or to several: balancing, retries, TLS
    unary       one request, one reply
    streaming   one request and many replies; many requests and one reply or many

Callbacks (`then`, `on_reply`, those added to a future) run on the thread of the connection. They must not
block: until they return, no other event of that connection is seen.
"""

from yais.rpc.client.channels import Channels
from yais.rpc.client.reply_stream import ReplyStream
from yais.rpc.client.service_config import Retry
from yais.rpc.client.status import Status
from yais.rpc.client.streaming import ClientServerStreaming, ClientStreaming
from yais.rpc.client.unary import Call, ClientUnary
from yais.rpc.client.write_stream import WriteStream

__all__ = [
    "Call",
    "Channels",
    "ClientServerStreaming",
    "ClientStreaming",
    "ClientUnary",
    "ReplyStream",
    "Retry",
    "Status",
    "WriteStream",
]
