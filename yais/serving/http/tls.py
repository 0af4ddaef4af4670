"""TLS over HTTP, by the same files as gRPC."""

from __future__ import annotations

import os
import ssl
from typing import Any, Self

from yais.rpc.tls import Tls, TlsMaterial

__all__ = ["tls_context"]


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Return a context that serves each client by the files as they are when it connects.

    Sessions that began with other files are not taken up again: whose certificate was good for those is asked
    for one that is good now.
    """
    return _Current(tls)


class _Current(ssl.SSLContext):
    """Stands for the context of the moment, for servers that make their connections of one context."""

    def __new__(cls, _tls: Tls) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._given = tls.material()
        self._context = _context(self._given)

    def wrap_bio(self, *arguments: Any, **keywords: Any) -> ssl.SSLObject:
        """Begin a connection."""
        material = self._tls.material()
        if material is not self._given:
            self._given, self._context = material, _context(material)
        return self._context.wrap_bio(*arguments, **keywords)


def _context(material: TlsMaterial) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if material.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=material.client_ca.decode("ascii", "ignore"))
    # The module reads files only, and what is used has to be what was checked.
    descriptor = os.memfd_create("yais-tls")
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(material.certificate + b"\n" + material.key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context
