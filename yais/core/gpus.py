"""NVIDIA GPUs and the CPUs near them: from NVML where there is one, else from the PCI devices in sysfs."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yais.core.cpu_set import CpuSet
from yais.core.sysfs import read_cpus, read_number, read_text

__all__ = ["Gpu", "nvml_devices", "nvml_gpus", "open_nvml", "pci_gpus", "read_gpus"]

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
        CUDA's number, from 0, as `yais.memory.cuda` and `instance_group.gpus` count: the position among the
        GPUs that CUDA_VISIBLE_DEVICES names, or among all in the order of their PCI addresses. Where GPUs
        differ, CUDA has that order only with CUDA_DEVICE_ORDER=PCI_BUS_ID.
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
    """Return the GPUs; none is no error. NVML and CUDA_VISIBLE_DEVICES count on this machine only.

    Without NVML, the PCI devices may be more than what a container was given.

    Parameters
    ----------
    root
        The directory that holds `sys`.
    cpu_count
        The highest CPU number of the machine and one.
    """
    if root != Path("/"):
        return pci_gpus(root)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if (nvml := open_nvml()) is None:
        return pci_gpus(root, visible=visible)
    try:
        return nvml_gpus(nvml, root, cpu_count=cpu_count, visible=visible)
    finally:
        nvml.nvmlShutdown()


def open_nvml() -> Any:
    """Return the module `pynvml` after `nvmlInit`; None without the package nvidia-ml-py or a driver."""
    try:
        import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def nvml_devices(nvml: Any, visible: str | None = None) -> dict[int, Any]:
    """Return NVML's handles by CUDA's numbers; a GPU that is lost, or not permitted, has only a number.

    Parameters
    ----------
    nvml
        The module `pynvml`, after `nvmlInit`.
    visible
        As CUDA_VISIBLE_DEVICES: numbers, or UUIDs, of which the beginning will do. What follows an unknown
        one is not visible, nor are instances of a GPU that is divided (MIG). None for all.
    """
    handles: list[Any] = []
    uuids: list[str] = []
    for number in range(nvml.nvmlDeviceGetCount()):
        handle, uuid = None, ""
        with contextlib.suppress(nvml.NVMLError):
            handle = nvml.nvmlDeviceGetHandleByIndex(number)
            uuid = _text(nvml.nvmlDeviceGetUUID(handle))
        handles.append(handle)
        uuids.append(uuid)
    numbers = range(len(handles)) if visible is None else _visible(visible, uuids)
    return {index: handles[number] for index, number in enumerate(numbers) if handles[number] is not None}


def _visible(names: str, uuids: Sequence[str]) -> Iterator[int]:
    """Yield the numbers of the GPUs that CUDA_VISIBLE_DEVICES names, until one that there is not."""
    for name in map(str.strip, names.split(",")):
        if name.isdecimal():
            found = [int(name)] if int(name) < len(uuids) else []
        else:
            found = [number for number, uuid in enumerate(uuids) if name and uuid.startswith(name)]
        if len(found) != 1:
            return
        yield found[0]


def nvml_gpus(nvml: Any, root: Path, *, cpu_count: int, visible: str | None = None) -> tuple[Gpu, ...]:
    """Return the GPUs that NVML shows.

    Parameters
    ----------
    nvml
        The module `pynvml`, after `nvmlInit`.
    root
        The directory that holds `sys`, which knows the NUMA nodes.
    cpu_count
        The highest CPU number of the machine and one.
    visible
        See `nvml_devices`.
    """
    gpus = []
    for index, device in nvml_devices(nvml, visible).items():
        with contextlib.suppress(nvml.NVMLError):
            gpus.append(_nvml_gpu(nvml, root, index, device, cpu_count))
    return tuple(gpus)


def _nvml_gpu(nvml: Any, root: Path, index: int, device: Any, cpu_count: int) -> Gpu:
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


def pci_gpus(root: Path, *, visible: str | None = None) -> tuple[Gpu, ...]:
    """Return the GPUs among the PCI devices, in the order of their addresses.

    Parameters
    ----------
    root
        The directory that holds `sys`.
    visible
        See `nvml_devices`; UUIDs are not known here.
    """
    directory = root / _DEVICES
    devices = sorted(directory.iterdir()) if directory.is_dir() else []
    found = [
        device
        for device in devices
        if read_text(device / "vendor") == _NVIDIA and read_text(device / "class").startswith(_CLASSES)
    ]
    if visible is not None:
        found = [found[number] for number in _visible(visible, [""] * len(found))]
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
