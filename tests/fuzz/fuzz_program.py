"""Attack a server for long: the inputs of the tests, and many more. See scripts/fuzz."""

from __future__ import annotations

import argparse
import sys
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

sys.path += [str(Path(__file__).parents[1] / "serving"), str(Path(__file__).parents[1] / "inference")]

import yais  # noqa: F401, I001 - before grpc
from fuzz_surfaces import SURFACES
from fuzz_target import Target, target
from fuzz_witness import Witness
from openapi_cases import OPERATIONS, ask_as_described

ROUND = 250
"""Inputs of one surface before the next."""

DESCRIBED = "described"
"""The surface whose inputs are those that the OpenAPI description allows."""

ASKED = [(path, method) for path, method in OPERATIONS if not path.endswith("load")]
"""The operations; without those that load and unload models, for it would be those of the good client."""

EXAMPLES = 5
"""Of them for each operation, in a round."""

MIXED = 50
"""Inputs of each surface that several threads send in any order, in a round."""

_FIRST_MIXED = 1_000_000  # of the numbers of these inputs

MOST = 20
"""Failures after which it ends."""


class Attacker:
    """Sends inputs, and counts how they end.

    Attributes
    ----------
    found
        The failures, as options that repeat them.
    endings
        Of each surface, how often its inputs ended how.
    """

    def __init__(self, attacked: Target, seed: int) -> None:
        self._attacked = attacked
        self._seed = seed
        self.found: list[str] = []
        self.endings: dict[str, Counter[str]] = {}
        self._lock = threading.Lock()

    def attack(self, surface: str, numbers: range) -> int:
        """Send the inputs of these numbers; return how many they were."""
        for number in numbers:
            self._try(surface, number)
        return len(numbers) * (EXAMPLES if surface == DESCRIBED else 1)

    def mix(self, surfaces: list[str], numbers: range) -> int:
        """Send the inputs of these numbers of all surfaces at once; return how many they were."""
        jobs = [(surface, number) for surface in surfaces for number in numbers if surface != DESCRIBED]
        Random(numbers.start).shuffle(jobs)
        with ThreadPoolExecutor(4) as threads:
            for job in jobs:
                threads.submit(self._try, *job)
        return len(jobs)

    def _try(self, surface: str, number: int) -> None:
        if len(self.found) >= MOST:
            return
        try:
            end = self._send(surface, number)
        except Exception:
            end = "failed"
            self.found.append(f"--seed {self._seed} --surface {surface} --input {number}")
            print(self.found[-1], traceback.format_exc(limit=-2), sep="\n", flush=True)
        with self._lock:
            self.endings.setdefault(surface, Counter())[end] += 1

    def _send(self, surface: str, number: int) -> str:
        if surface != DESCRIBED:
            return SURFACES[surface](self._attacked, Random(f"{self._seed} {surface} {number}"))
        turn, operation = divmod(number, len(ASKED))
        port, of = self._attacked.http_port, turn + 1000 * self._seed
        ask_as_described(port, *ASKED[operation], examples=EXAMPLES, of=of)
        return "as described"


def main() -> int:
    """Run; return 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long, to the end of a round")
    parser.add_argument("--seed", type=int, default=0, help="of all inputs")
    surfaces = [*SURFACES, DESCRIBED]
    parser.add_argument("--surface", choices=surfaces, action="append", help="only this; may be repeated")
    parser.add_argument("--input", type=int, help="only the input of this number")
    chosen = parser.parse_args()
    with target() as attacked, Witness(attacked.port, attacked.http_port) as witness:
        attacker = Attacker(attacked, chosen.seed)
        if chosen.input is not None:
            attacker.attack(chosen.surface[0], range(chosen.input, chosen.input + 1))
            return bool(attacker.found)
        count, flat = _rounds(attacked, attacker, witness, chosen.surface or surfaces, chosen.seconds)
        for surface, ends in attacker.endings.items():
            print(f"{surface:10}", ", ".join(f"{end} {often}" for end, often in ends.most_common()))
        print(
            f"{count} inputs, {len(attacker.found)} failures; a good client had {witness.count} answers, "
            f"the slowest after {1000 * witness.slowest:.0f} ms"
        )
    return bool(attacker.found) or not flat


def _rounds(
    attacked: Target, attacker: Attacker, witness: Witness, surfaces: list[str], seconds: float
) -> tuple[int, bool]:
    """Attack one surface after another; return how many inputs that were, and whether usage stayed flat."""
    end = time.monotonic() + seconds
    count = turn = 0
    before = attacked.usage
    while time.monotonic() < end and len(attacker.found) < MOST:
        for surface in [*surfaces, "all at once"]:
            begun = time.monotonic()
            if surface in surfaces:
                size = len(ASKED) if surface == DESCRIBED else ROUND
                sent = attacker.attack(surface, range(turn * size, (turn + 1) * size))
            else:
                first = _FIRST_MIXED + turn * MIXED
                sent = attacker.mix(surfaces, range(first, first + MIXED))
            count += sent
            attacked.restore()
            witness.check()
            rate = sent / (time.monotonic() - begun)
            print(f"{turn + 1:4} {surface:11} {sent} inputs, {rate:.0f}/s, {attacked.usage}", flush=True)
        turn += 1
        if turn == 1:
            before = attacked.usage
    after = attacked.usage
    print(f"after the first round {before}; at the end {after}")
    return count, after.flat(before)


if __name__ == "__main__":
    sys.exit(main())
