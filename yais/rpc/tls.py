"""TLS and mutual TLS, with certificates that are read again when their files change."""

from __future__ import annotations

import logging
import os
import ssl
import threading
from dataclasses import dataclass
from typing import Any

import grpc

__all__ = ["Tls", "TlsMaterial"]

_log = logging.getLogger("yais.rpc")

_Stamp = tuple[tuple[int, int, int] | None, ...]


class Tls:
    """A server's certificate, and whose certificates it takes. Thread-safe.

    The files are looked at when a client connects, and read again when they have changed; symbolic links
    are followed, as Kubernetes swaps them. Connections that exist stay as they are. What cannot be used (a
    file that is half written, a key that belongs to the certificate before) is reported once as a warning,
    and the certificate before stays in use until the files change again.

    Parameters
    ----------
    certificate
        PEM file of the server's certificate, followed by those that lead to its authority.
    key
        PEM file of its private key, without a passphrase.
    client_ca
        PEM file of the authorities that certify clients. With it (mutual TLS) a client without a certificate
        of theirs is refused; without it, clients are not asked for one.

    Raises
    ------
    OSError
        A file cannot be read.
    ValueError
        A file holds something else, or the key belongs to another certificate.

    Examples
    --------
    >>> tls = Tls("/etc/tls/tls.crt", "/etc/tls/tls.key", client_ca="/etc/tls/ca.crt")
    >>> server = Server("0.0.0.0:50051", tls=tls)
    """

    def __init__(
        self,
        certificate: str | os.PathLike[str],
        key: str | os.PathLike[str],
        client_ca: str | os.PathLike[str] | None = None,
    ) -> None:
        files = [os.fspath(file) for file in (certificate, key, client_ca) if file is not None]
        self._files = files
        self._lock = threading.Lock()
        self._stamp = _stamp(files)
        self._material = _read(files)

    def __repr__(self) -> str:
        certificate, _, *client_ca = self._files
        return f"<Tls {certificate}{f', clients of {client_ca[0]}' if client_ca else ''}>"

    def __reduce__(self) -> tuple[type[Tls], tuple[str, ...]]:
        return type(self), tuple(self._files)  # another process reads them itself

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials for one port: each keeps track of what it has been given."""
        given = self.material()

        def changed() -> Any:
            nonlocal given
            current = self.material()
            if current is given:
                return None
            given = current
            return current.configuration()

        return grpc.dynamic_ssl_server_credentials(
            given.configuration(), changed, require_client_authentication=len(self._files) > 2
        )

    def material(self) -> TlsMaterial:
        """Return what the files held when they were last looked at, which is now, and could be used."""
        with self._lock:
            stamp = _stamp(self._files)
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._material = _read(self._files)
                except (OSError, ValueError) as error:
                    _log.warning("%r keeps its certificate, the new files cannot be used: %s", self, error)
                else:
                    _log.info("%r has read its files again", self)
            return self._material


@dataclass(frozen=True, eq=False)
class TlsMaterial:
    """The contents of the files, in PEM format; they fit each other."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None

    def configuration(self) -> Any:
        """Return them as gRPC takes them."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificate)], self.client_ca)


def _stamp(files: list[str]) -> _Stamp:
    """Return what differs once a file has changed."""

    def of(file: str) -> tuple[int, int, int] | None:
        try:
            status = os.stat(file)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    return tuple(of(file) for file in files)


def _read(files: list[str]) -> TlsMaterial:
    contents = []
    for file in files:
        with open(file, "rb") as stream:
            contents.append(stream.read())
    certificate, key, *rest = contents
    _check_certificates(files[0], certificate)
    _check_key(files[0], certificate, files[1], key)
    for file, authorities in zip(files[2:], rest, strict=True):
        _check_certificates(file, authorities)
    return TlsMaterial(certificate, key, rest[0] if rest else None)


def _check_certificates(file: str, content: bytes) -> None:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_verify_locations(cadata=content.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(f"{file}: expected certificates in PEM format: {error}") from None


def _check_key(certificate_file: str, certificate: bytes, key_file: str, key: bytes) -> None:
    if b" PRIVATE KEY-----" not in key:
        raise ValueError(f"{key_file}: expected a private key in PEM format")

    def no_passphrase() -> str:
        raise ValueError(f"{key_file}: the key has a passphrase, expected one without")

    # The module reads files only, and what is checked has to be what was read.
    descriptor = os.memfd_create("yais-tls")
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            stream.write(certificate + b"\n" + key)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            f"/proc/self/fd/{descriptor}", password=no_passphrase
        )
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            message = f"{key_file}: the key belongs to another certificate than that in {certificate_file}"
            raise ValueError(message) from None
        raise ValueError(f"{key_file}: expected a private key in PEM format: {error}") from None
    finally:
        os.close(descriptor)
