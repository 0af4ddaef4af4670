"""A certificate authority for tests."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("cryptography", reason="certificates are made with it")

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Pair(NamedTuple):
    """A certificate and its key, in PEM format."""

    certificate: bytes
    key: bytes

    def write(self, directory: Path, name: str = "tls") -> tuple[Path, Path]:
        """Write both; return their paths."""
        directory.mkdir(parents=True, exist_ok=True)
        files = directory / f"{name}.crt", directory / f"{name}.key"
        for file, content in zip(files, self, strict=True):
            file.write_bytes(content)
        return files


class Authority:
    """Certifies. Its own certificate, in PEM format, is `certificate`."""

    def __init__(self, name: str = "authority") -> None:
        self._name = _named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._signed(self._name, self._key, [], authority=True)

    def certify(self, name: str, *alternatives: str) -> Pair:
        """Make a certificate for a common name and for alternative names, URIs if they have a colon."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._signed(_named(name), key, alternatives, authority=False)
        return Pair(
            certificate,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def _signed(self, subject, key, alternatives, *, authority: bool) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if alternatives:
            names = [
                x509.UniformResourceIdentifier(name) if ":" in name else x509.DNSName(name)
                for name in alternatives
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
