"""How long a model's batches take, by size: what decides where they run."""

from __future__ import annotations

__all__ = ["Pace"]

# A batch shorter than this runs on the queue's own thread: handing it to another thread and back costs
# about as much (DESIGN.md, D1a).
SHORT = 150_000  # ns

# The queue's thread reads and answers each request of a batch, which takes it some 50 us: beside that, so
# much for each is worth less than two threads that hand the interpreter to each other (benchmarks/README.md).
_BESIDE = 10_000  # ns

# A size that was found to be long, but not by more than this factor, is now and then run on the queue's
# thread again, since what is measured on another thread includes waiting for the interpreter's lock.
_PROBE_FACTOR = 10
_PROBE_EVERY = 64  # batches


class Pace:
    """A running mean of batch durations for each power of two of batch sizes.

    Observations from several threads may overwrite each other; the mean does not mind.
    """

    def __init__(self) -> None:
        self._means: dict[int, float] = {}  # by bit length of the size
        self._asked = 0

    def __repr__(self) -> str:
        means = ", ".join(f"<{1 << bits}: {mean / 1e3:.0f} us" for bits, mean in sorted(self._means.items()))
        return f"<Pace {means or 'unknown'}>"

    def observe(self, size: int, ns: int, *, here: bool) -> None:
        """Take in that a batch of `size` took `ns`, on the queue's thread (`here`) or elsewhere.

        Outliers count as four times the mean at most, so that one unlucky batch does not send a short
        model away. But what has held up the queue's thread for far too long is believed at once: a model
        that takes long for some inputs must not hold up everybody else again. Elsewhere a batch may have
        waited for the interpreter's lock, which only adds to its time: less than the mean counts for more.
        """
        bits = size.bit_length()
        mean = self._means.get(bits)
        if mean is None or (here and ns > SHORT * _PROBE_FACTOR):
            self._means[bits] = max(ns, 1)
            return
        slowness = 8 if here else 4 if ns < mean else 32
        self._means[bits] = mean + (min(ns, 4 * mean) - mean) / slowness

    def expected(self, size: int) -> float | None:
        """Return how long a batch of `size` is expected to take, ns; None when nothing is known.

        A size never seen is expected to take as long as the largest smaller one seen.
        """
        for bits in range(size.bit_length(), 0, -1):
            mean = self._means.get(bits)
            if mean is not None:
                return mean
        return None

    def near(self, size: int) -> bool:
        """Whether a batch of `size` may turn out to be short: now, or when it is tried again."""
        expected = self.expected(size)
        return expected is not None and expected <= SHORT * _PROBE_FACTOR

    def short(self, size: int, requests: int = 1) -> bool:
        """Whether a batch of `size` items, of so many requests, should run on the queue's thread."""
        expected = self.expected(size)
        if expected is None:
            return False
        if expected <= max(SHORT, requests * _BESIDE):
            return True
        self._asked += 1
        return expected <= SHORT * _PROBE_FACTOR and self._asked % _PROBE_EVERY == 0
