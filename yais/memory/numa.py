"""Memory on a NUMA node: putting it there, and seeing where it is."""

from __future__ import annotations

import collections
import mmap
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yais.core.affinity import affinity
from yais.memory.fallbacks import fall_back
from yais.memory.kernel import mbind

if TYPE_CHECKING:
    from yais.core.topology import NumaNode
    from yais.memory.buffer import Buffer

__all__ = ["place", "placement"]

_PAGES = re.compile(r"(?<= )N([0-9]+)=([0-9]+)")
_PAGE_SIZE = re.compile(r"kernelpagesize_kB=([0-9]+)")


def place(pages: memoryview, node: NumaNode, *, root: Path = Path("/")) -> None:
    """Make fresh pages present on a node.

    The kernel is told by mbind(2) where they belong, and each is written to on the node's CPUs. Either is
    enough. Where mbind is refused, as in containers without CAP_SYS_NICE, and there is more than one node,
    that counts as a fall-back: "mbind" in `yais.memory.fallbacks`.

    Parameters
    ----------
    pages
        Zeroed bytes of whole pages that nobody has touched.
    node
        Where to. A node without CPUs is one that only mbind can reach.
    root
        The directory that holds `sys`.

    Raises
    ------
    ValueError
        The process may not run on the node's CPUs.
    """
    array = np.frombuffer(pages, np.uint8)
    try:
        mbind(array.ctypes.data, array.nbytes, node.id)
    except OSError as error:
        if _has_more_nodes(root):
            instead = "first touch places them" if node.cpus else "the kernel places them"
            fall_back("mbind", f"{error.strerror}; pages for node {node.id}: {instead}")
    if not node.cpus:
        array[:: mmap.PAGESIZE] = 0
        return
    with affinity(node.cpus):
        array[:: mmap.PAGESIZE] = 0


def _has_more_nodes(root: Path) -> bool:
    try:
        return (root / "sys/devices/system/node/online").read_text(encoding="ascii").strip() not in {"", "0"}
    except OSError:
        return False


def placement(buffer: Buffer, *, root: Path = Path("/")) -> dict[int, int] | None:
    """Return where the memory of a buffer is: pages by NUMA node, of 4 KiB or what the machine has.

    Read from `proc/self/numa_maps` (numa(7)). The kernel joins neighbouring mappings that are alike, so pages
    of a neighbour may be among them.

    Parameters
    ----------
    buffer
        With at least one byte. Pages that were never touched are nowhere.
    root
        The directory that holds `proc`.

    Returns
    -------
    dict or None
        None where the machine does not tell.
    """
    try:
        lines = (root / "proc/self/numa_maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    first, last = buffer.handle, buffer.handle + buffer.size - 1
    mappings = [(int(line.partition(" ")[0], 16), line) for line in lines]
    begins = max((start for start, _ in mappings if start <= first), default=first)
    pages: collections.Counter[int] = collections.Counter()
    for start, line in mappings:
        if begins <= start <= last:
            size = _PAGE_SIZE.search(line)
            unit = int(size[1]) * 1024 // mmap.PAGESIZE if size else 1
            pages.update({int(node): int(count) * unit for node, count in _PAGES.findall(line)})
    return dict(pages)
