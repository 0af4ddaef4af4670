"""NVIDIA GPUs and the CPUs near them: from NVML where there is one, else from the PCI devices in sysfs."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yais.core.cpu_set import CpuSet
from yais.core.sysfs import read_cpus, read_number, read_text

__all__ = ["Gpu", "nvml_gpus", "pci_gpus", "read_gpus"]

_DEVICES = "sys/bus/pci/devices"
_NVIDIA = "0x10de"
_CLASSES = ("0x0300", "0x0302")
"""VGA and 3D controllers; the rest of a device's class is its programming interface."""

_LONG = 8 * ctypes.sizeof(ctypes.c_ulong)
"""Bits in an element of NVML's CPU masks."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of this machine.

    Attributes
    ----------
    index
        NVML's number, or the position among the PCI devices, from 0.
    name
        "NVIDIA H200"; from PCI alone the device's number, as in "0x2335".
    pci
        Its address as sysfs writes it, "0000:3b:00.0".
    node
        Its NUMA node; None where the machine does not say.
    cpus
        CPUs near it. In a `Topology`, those of them that the process may use, or the nearest others.
    """

    index: int
    name: str
    pci: str
    node: int | None
    cpus: CpuSet


def read_gpus(root: Path = Path("/"), *, cpu_count: int) -> tuple[Gpu, ...]:
    """Return the GPUs; none is no error. NVML is asked on this machine only.

    Without NVML, the PCI devices may be more than what a container was given.

    Parameters
    ----------
    root
        The directory that holds `sys`.
    cpu_count
        The highest CPU number of the machine and one.
    """
    if root == Path("/") and (nvml := _nvml()) is not None:
        try:
            return nvml_gpus(nvml, root, cpu_count=cpu_count)
        finally:
            nvml.nvmlShutdown()
    return pci_gpus(root)


def _nvml() -> Any:
    """Return NVML, started; None without the package nvidia-ml-py or without a driver."""
    try:
        import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def nvml_gpus(nvml: Any, root: Path, *, cpu_count: int) -> tuple[Gpu, ...]:
    """Return the GPUs that NVML shows.

    Parameters
    ----------
    nvml
        The module `pynvml`, after `nvmlInit`.
    root
        The directory that holds `sys`, which knows the NUMA nodes.
    cpu_count
        The highest CPU number of the machine and one.
    """
    gpus = []
    for index in range(nvml.nvmlDeviceGetCount()):
        # A device that is lost or not permitted has an index all the same.
        with contextlib.suppress(nvml.NVMLError):
            gpus.append(_nvml_gpu(nvml, root, index, cpu_count))
    return tuple(gpus)


def _nvml_gpu(nvml: Any, root: Path, index: int, cpu_count: int) -> Gpu:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    name, bus = nvml.nvmlDeviceGetName(device), nvml.nvmlDeviceGetPciInfo(device).busId
    # NVML writes eight digits of the domain where sysfs writes four, and in capitals.
    domain, _, rest = _text(bus).lower().partition(":")
    pci = f"{int(domain, 16):04x}:{rest}"
    directory = root / _DEVICES / pci
    try:
        # The size counts longs, not bytes; too few lose CPUs.
        mask = nvml.nvmlDeviceGetCpuAffinity(device, -(-cpu_count // _LONG))
        cpus = CpuSet(_bits(mask))
    except nvml.NVMLError:  # not on every platform
        cpus = read_cpus(directory / "local_cpulist")
    return Gpu(index, _text(name), pci, read_number(directory / "numa_node"), cpus)


def _text(value: str | bytes) -> str:
    # The package gives bytes or str, by version and by function.
    return value.decode() if isinstance(value, bytes) else value


def _bits(mask: Iterable[int]) -> Iterator[int]:
    return (
        index * _LONG + bit for index, word in enumerate(mask) for bit in range(_LONG) if int(word) >> bit & 1
    )


def pci_gpus(root: Path) -> tuple[Gpu, ...]:
    """Return the GPUs among the PCI devices, in the order of their addresses."""
    directory = root / _DEVICES
    devices = sorted(directory.iterdir()) if directory.is_dir() else []
    found = [
        device
        for device in devices
        if read_text(device / "vendor") == _NVIDIA and read_text(device / "class").startswith(_CLASSES)
    ]
    return tuple(
        Gpu(
            index,
            read_text(device / "device"),
            device.name,
            read_number(device / "numa_node"),
            read_cpus(device / "local_cpulist"),
        )
        for index, device in enumerate(found)
    )
