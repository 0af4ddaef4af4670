"""The response cache: what was answered to the same request before."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from yais.inference.cached_response import CachedResponse, cached_size
from yais.inference.layout import Layout
from yais.inference.request import InferRequest, InferResponse
from yais.inference.request_digest import request_digest

__all__ = ["CacheStatistics", "ResponseCache"]

_SERIAL = 8  # bytes of a key that stand for the model


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """The numbers of a cache.

    Attributes
    ----------
    size
        Bytes it may hold.
    used
        Bytes it holds.
    entries
        Responses it holds.
    hits, misses
        Lookups that found a response, and that did not.
    evictions
        Responses that made room for others.
    """

    size: int
    used: int
    entries: int
    hits: int
    misses: int
    evictions: int


class ResponseCache:
    """Keeps the responses that were asked for last, of all models together. Thread-safe.

    Nothing is digested or copied under its lock. Requests that ask the same while the first of them still
    runs all run: there is no answer yet.

    Parameters
    ----------
    size
        Bytes it may hold, at least one; see `CachedResponse.size`. Never more, but for copies being made.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"got a response cache of {size} bytes, expected at least 1")
        self._size = size
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, CachedResponse] = OrderedDict()  # the one asked for last at the end
        self._used = 0
        self._hits = self._misses = self._evictions = 0
        self._count = itertools.count()
        self._serials: dict[Hashable, bytes] = {}
        self._known: set[bytes] = set()  # serials of models that were not dropped

    def __repr__(self) -> str:
        now = self.statistics()
        return (
            f"<ResponseCache: {now.entries} responses in {now.used} of {now.size} bytes, {now.hits} hits, "
            f"{now.misses} misses, {now.evictions} evictions>"
        )

    def key(self, model_key: Hashable, request: InferRequest, layout: Layout) -> bytes:
        """Return what the response to a request is kept under; see `request_digest`.

        Parameters
        ----------
        model_key
            Stands for the model as it was loaded, not for its name: what is loaded under the same name and
            version later must not answer with what this one said. Kept until `drop`.
        request, layout
            A checked request.
        """
        serial = self._serials.get(model_key)
        if serial is None:
            serial = self._add(model_key)
        return serial + request_digest(request, layout)

    def get(self, key: bytes) -> CachedResponse | None:
        """Return what is kept under a key, if anything is; counts as a hit or a miss."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                self._misses += 1
            else:
                self._hits += 1
                self._entries.move_to_end(key)
            return found

    def put(self, key: bytes, response: InferResponse) -> None:
        """Keep a copy of a response, for which those asked for longest ago make room.

        Not if the model was dropped since the key was made, if there is a response already, or if it is
        larger than the whole cache.
        """
        if cached_size(response) > self._size or not self._wanted(key):
            return
        kept = CachedResponse(response)
        evicted = []  # freed after the lock is
        with self._lock:
            if not self._wanted(key):
                return
            while self._used + kept.size > self._size:
                evicted.append(self._entries.popitem(last=False)[1])
                self._used -= evicted[-1].size
            self._entries[key] = kept
            self._used += kept.size
            self._evictions += len(evicted)

    def drop(self, model_key: Hashable) -> None:
        """Forget all responses of a model, and keep none that is still on its way."""
        with self._lock:
            serial = self._serials.pop(model_key, None)
            if serial is None:
                return
            self._known.remove(serial)
            keys = list(self._entries)
        for key in [key for key in keys if key.startswith(serial)]:
            with self._lock:
                dropped = self._entries.pop(key, None)
                self._used -= dropped.size if dropped else 0

    def statistics(self) -> CacheStatistics:
        """Return the present numbers, all of one moment."""
        with self._lock:
            return CacheStatistics(
                self._size, self._used, len(self._entries), self._hits, self._misses, self._evictions
            )

    def _add(self, model_key: Hashable) -> bytes:
        with self._lock:
            if model_key not in self._serials:
                serial = next(self._count).to_bytes(_SERIAL, "big")
                self._serials[model_key] = serial
                self._known.add(serial)
            return self._serials[model_key]

    def _wanted(self, key: bytes) -> bool:
        return key[:_SERIAL] in self._known and key not in self._entries
