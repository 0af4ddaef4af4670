"""Tensors in the shared memory of clients: inputs from there, and outputs to there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from yais.core.tensor import DataType, TensorSpec
from yais.errors import Internal
from yais.inference.device_contents import DeviceContents
from yais.inference.request import InferResponse, ResponseForm, TensorData
from yais.protocol.infer_request import InferMessage, bytes_elements
from yais.protocol.tensor_codec import encode_bytes
from yais.serving.client_region import ClientRegion
from yais.serving.cuda_region import MappedCudaRegion
from yais.serving.infer_form import InferForm, Placement, form_of

if TYPE_CHECKING:
    from yais.serving.resources import ServingResources

__all__ = ["copies_much", "mapped", "on_gpus", "on_host", "placed", "release", "taken"]

_MAX_KEPT = 64  # forms of responses kept for a form of requests

_EMPTY = memoryview(b"")

_MUCH = 1 << 20  # bytes; to copy them from a GPU takes about as long as to wake another thread


def copies_much(resources: ServingResources, message: InferMessage) -> bool:
    """Return whether `infer` would wait for large copies of inputs that clients have on GPUs.

    Raises `YaisError` as `infer` does.
    """
    memory = resources.cuda_memory
    if not len(memory):
        return False
    form = form_of(message)
    if not form.shared_inputs:
        return False
    gpus = resources.find_model(message.model_name, message.model_version).gpus
    sizes = [
        place.byte_size
        for index, place in form.shared_inputs.items()
        if place.region in memory and not _stays(memory.find(place.region), form.inputs[index], place, gpus)
    ]
    return sum(sizes) > _MUCH


def mapped(
    message: InferMessage, form: InferForm, resources: ServingResources, gpus: Collection[int]
) -> list[TensorData]:
    """Return the contents of the inputs, with views of those in shared memory, or copies from a GPU.

    Contents on one of `gpus`, those of the model, stay there.
    """
    data: list[Any] = list(message.data)
    for index, place in form.shared_inputs.items():
        region, spec = _region(resources, place.region), form.inputs[index]
        of_bytes = spec.datatype is DataType.BYTES
        if gpus and _stays(region, spec, place, gpus):
            data[index] = region.contents(place.offset, place.byte_size)
            continue
        # Read-only: no model may write to what is the client's.
        view = region.read(place.offset, place.byte_size)
        data[index] = bytes_elements(spec, view, message.model_name) if of_bytes else view
    return data


def on_gpus(data: Iterable[TensorData]) -> list[DeviceContents]:
    """Return the contents that are on a GPU."""
    return [contents for contents in data if type(contents) is DeviceContents]


def on_host(data: Iterable[TensorData]) -> list[TensorData]:
    """Return contents with copies of those on a GPU. Raises what `DeviceRegion.copy_to` does."""
    return [bytes(contents) if type(contents) is DeviceContents else contents for contents in data]


def taken(
    form: InferForm, resources: ServingResources, inputs: Iterable[DeviceContents]
) -> Mapping[str, ClientRegion]:
    """Return the regions of the outputs, to be released: they may be unregistered while the model runs.

    So may those of the inputs on a GPU, which are acquired as well.
    """
    regions: dict[str, ClientRegion] = {}
    acquired: list[DeviceContents] = []
    try:
        for contents in inputs:
            contents.acquire()
            acquired.append(contents)
        for name, place in form.shared_outputs.items():
            region = _region(resources, place.region)
            region.acquire()
            regions[name] = region
            region.check(place.offset, place.byte_size)  # refused now rather than when the model has run
    except BaseException:
        release(regions, acquired)
        raise
    return regions


def release(regions: Mapping[str, ClientRegion], inputs: Iterable[DeviceContents]) -> None:
    """Let go of what `taken` has taken."""
    for region in regions.values():
        region.release()
    for contents in inputs:
        contents.release()


def placed(response: InferResponse, form: InferForm, regions: Mapping[str, ClientRegion]) -> InferResponse:
    """Return a response without the outputs that are written to shared memory here."""
    data: list[Any] = list(response.data)
    sizes = []
    for index, spec in enumerate(response.form.outputs):
        region = regions.get(spec.name)
        if region is None:
            continue
        place = form.shared_outputs[spec.name]
        contents = data[index]
        wire = contents if isinstance(contents, memoryview) else memoryview(encode_bytes(contents))
        size = wire.nbytes
        if size > place.byte_size:
            raise Internal(
                f"shared memory size specified with the request for output '{spec.name}' "
                f"({place.byte_size} bytes) should be at least {size} bytes to hold the results"
            )
        region.write(place.offset, wire)  # checked again: its client may have made it smaller
        data[index] = _EMPTY
        sizes.append(size)
    key = (response.form, tuple(sizes))
    made = form.placed.get(key)
    if made is None:
        if len(form.placed) >= _MAX_KEPT:
            form.placed.clear()
        made = form.placed[key] = _placed_form(response.form, form.shared_outputs, sizes)
    return InferResponse(made, response.id, data)


def _stays(
    region: ClientRegion, spec: TensorSpec, place: Placement, gpus: Collection[int]
) -> TypeGuard[MappedCudaRegion]:
    """Return whether an input is left where it is: numbers on one of these GPUs."""
    numbers = place.byte_size != 0 and spec.datatype is not DataType.BYTES
    return numbers and isinstance(region, MappedCudaRegion) and region.gpu in gpus


def _region(resources: ServingResources, name: str) -> ClientRegion:
    """Return a region of either kind; raises as `SystemSharedMemory.find`."""
    if name in resources.cuda_memory:
        return resources.cuda_memory.find(name)
    return resources.system_memory.find(name)


def _placed_form(form: ResponseForm, places: Mapping[str, Placement], sizes: Sequence[int]) -> ResponseForm:
    names = [spec.name for spec in form.outputs if spec.name in places]
    parameters: dict[str, dict[str, str | int]] = {}
    for name, size in zip(names, sizes, strict=True):
        place = places[name]
        parameters[name] = {"shared_memory_region": place.region, "shared_memory_byte_size": size}
        if place.offset:
            parameters[name]["shared_memory_offset"] = place.offset
    return ResponseForm(form.model_name, form.model_version, form.outputs, parameters)
