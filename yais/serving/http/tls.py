"""TLS over HTTP, by the same files as gRPC."""

from __future__ import annotations

import os
import ssl

from yais.rpc.tls import Tls, TlsMaterial

__all__ = ["tls_context"]


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Return a context that shows a client the certificate which is current when it connects."""
    given = tls.material()
    context = _context(given)

    def chosen(connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _of: ssl.SSLContext) -> None:
        nonlocal given, context
        current = tls.material()
        if current is not given:
            given, context = current, _context(current)
        connection.context = context

    context.sni_callback = chosen
    return context


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
