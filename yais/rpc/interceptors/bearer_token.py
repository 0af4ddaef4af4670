"""Authentication by bearer tokens (RFC 6750): who calls is who knows the token."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Self

from yais.errors import Internal, Unauthenticated, YaisError
from yais.rpc.interceptor import IncomingCall, Interceptor
from yais.rpc.interceptors.exemption import HEALTH, Exemption

__all__ = ["BearerToken"]

_log = logging.getLogger("yais.rpc")

_EXPECTED = "expected 'authorization: Bearer <token>'"


class BearerToken(Interceptor):
    """Refuses calls without a known token with UNAUTHENTICATED, and names the others' callers.

    Tokens travel as they are: use TLS. Neither a message nor a log of this class contains one. Thread-safe.

    Parameters
    ----------
    tokens
        A token for each identity; changing the mapping later has no effect. Or a function that takes a
        token and returns the identity, or None if it does not know it. The function is called for each
        call, on an executor's thread, and must return at once; a `YaisError` that it raises ends the call.
    exempt
        Methods that need no token: "/package.Service/" or "/package.Service/Method".

    Raises
    ------
    ValueError
        There is no token, an empty one, or two identities have the same.

    Examples
    --------
    >>> server = Server("0.0.0.0:50051", tls=tls, interceptors=[BearerToken({"alice": secret})])
    """

    def __init__(
        self,
        tokens: Mapping[str, str] | Callable[[str], str | None],
        *,
        exempt: Iterable[str] = HEALTH,
    ) -> None:
        self._exempt = Exemption(exempt)
        self._identify = _Table(tokens.items()) if isinstance(tokens, Mapping) else tokens

    def __repr__(self) -> str:
        # A user's function might show tokens in its own.
        return f"<BearerToken by {type(self._identify).__name__.lstrip('_').lower()}>"

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, exempt: Iterable[str] = HEALTH) -> Self:
        """Take the tokens from a file, and read it again whenever it has changed.

        Each line is an identity and a token, separated by blanks; empty lines and those that begin with
        "#" are ignored. An identity may occur several times, so that its old token works while the new one
        is rolled out. A file that has become unusable (gone, malformed, without tokens) is reported once as
        an error, and the tokens before stay in use until it changes again.

        Raises
        ------
        OSError
            The file cannot be read.
        ValueError
            A line has another form (the error gives its number only), or there is no token.
        """
        return cls(_File(os.fspath(path)), exempt=exempt)

    def begin(self, call: IncomingCall) -> None:
        """Refuse the call, or name its caller."""
        if call.method not in self._exempt:
            call.identity = self.identity_of(call.metadata.get_all("authorization"))

    def identity_of(self, authorizations: Sequence[str | bytes]) -> str:
        """Return who calls, by the values of all its authorization headers; for calls that are not gRPC's.

        Raises
        ------
        Unauthenticated
            There is not one, it is of another form, or the token is not known.
        """
        identity = self._looked_up(_token_of(authorizations))
        if identity is None:
            raise Unauthenticated("got a bearer token that is not known here")
        return identity

    def _looked_up(self, token: str) -> str | None:
        try:
            identity = self._identify(token)
            if identity is not None and not isinstance(identity, str):
                raise TypeError(f"got {type(identity).__name__} as an identity, expected str or None")
        except YaisError:
            raise
        except Exception as error:
            # Not the error itself, whose message may contain the token: as that of a KeyError does.
            where = "".join(traceback.format_tb(error.__traceback__))
            _log.error("%s while a bearer token was looked up\n%s", type(error).__name__, where)
            raise Internal(f"the bearer token could not be looked up: {type(error).__name__}") from None
        return identity


def _token_of(values: Sequence[str | bytes]) -> str:
    if len(values) != 1:
        raise Unauthenticated(f"got {len(values) or 'no'} authorization headers, {_EXPECTED}")
    # What is not of this form may be a bare token: it is not repeated.
    scheme, _, token = str(values[0]).strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated(f"got an authorization of another form, {_EXPECTED}")
    return token


class _Table:
    """Tokens and whose they are. Looking one up takes the same time wherever it stands, if at all."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._rows: list[tuple[bytes, str]] = []
        owners: dict[bytes, str] = {}
        for identity, token in pairs:
            if not identity or not token or token != token.strip():
                raise ValueError(
                    f"got identity {identity!r} with an empty name or token, or blanks around it"
                )
            digest = _digest(token)
            owner = owners.setdefault(digest, identity)
            if owner != identity:
                raise ValueError(
                    f"got the same token for {owner!r} and {identity!r}, expected different ones"
                )
            self._rows.append((digest, identity))
        if not self._rows:
            raise ValueError("got no tokens, expected at least one")

    def __call__(self, token: str) -> str | None:
        # Digests have one length, and a difference in them says nothing of one in the tokens.
        digest = _digest(token)
        found = None
        for known, identity in self._rows:
            if hmac.compare_digest(known, digest):
                found = identity
        return found


class _File:
    """A `_Table` that follows its file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp = _stamp(path)
        self._table = _read(path)

    def __call__(self, token: str) -> str | None:
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            with self._lock:
                if stamp != self._stamp:
                    self._read_again(stamp)
        return self._table(token)

    def _read_again(self, stamp: tuple[int, int, int] | None) -> None:
        try:
            self._table = _read(self._path)
        except (OSError, ValueError) as error:
            _log.error("the tokens before stay in use, %s cannot be used: %s", self._path, error)
        else:
            _log.info("tokens were read again from %s", self._path)
        self._stamp = stamp  # last: who finds it unchanged finds the new table


def _stamp(path: str) -> tuple[int, int, int] | None:
    """Return what differs once a file has changed; symbolic links are followed, as Kubernetes swaps them."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: str) -> _Table:
    pairs = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) != 2:
                raise ValueError(
                    f"{path}, line {number}: got {len(words)} words, expected an identity and a token"
                )
            pairs.append((words[0], words[1]))
    try:
        return _Table(pairs)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
