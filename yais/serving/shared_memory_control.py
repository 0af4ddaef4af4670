"""Control of shared memory by clients: status, register and unregister, of the system's and of GPUs'."""

from __future__ import annotations

from yais.errors import AlreadyExists, NotFound
from yais.protocol import kserve_pb2 as pb
from yais.rpc.context import Context
from yais.serving.cuda_shared_memory import CudaRegion, CudaSharedMemory
from yais.serving.resources import ServingResources
from yais.serving.shared_memory import Region, SystemSharedMemory

__all__ = [
    "CudaSharedMemoryRegisterContext",
    "CudaSharedMemoryStatusContext",
    "CudaSharedMemoryUnregisterContext",
    "SystemSharedMemoryRegisterContext",
    "SystemSharedMemoryStatusContext",
    "SystemSharedMemoryUnregisterContext",
]


class SystemSharedMemoryStatusContext(
    Context[pb.SystemSharedMemoryStatusRequest, pb.SystemSharedMemoryStatusResponse, ServingResources]
):
    """Serves SystemSharedMemoryStatus: a region, or all."""

    def execute(self, request: pb.SystemSharedMemoryStatusRequest) -> pb.SystemSharedMemoryStatusResponse:
        """Answer the request."""
        response = pb.SystemSharedMemoryStatusResponse()
        name = request.name
        if name and name in self.resources.cuda_memory:
            raise NotFound(
                f"The region named '{name}' is registered as CUDA shared memory, not system shared memory"
            )
        for region in self.resources.system_memory.status(name):
            status = response.regions[region.name]
            status.name, status.key = region.name, region.key
            status.offset, status.byte_size = region.offset, region.byte_size
        return response


class SystemSharedMemoryRegisterContext(
    Context[pb.SystemSharedMemoryRegisterRequest, pb.SystemSharedMemoryRegisterResponse, ServingResources]
):
    """Serves SystemSharedMemoryRegister."""

    def execute(self, request: pb.SystemSharedMemoryRegisterRequest) -> pb.SystemSharedMemoryRegisterResponse:
        """Answer the request."""
        _expect_free(request.name, self.resources.cuda_memory)
        region = Region(request.name, request.key, request.offset, request.byte_size)
        self.resources.system_memory.register(region)
        return pb.SystemSharedMemoryRegisterResponse()


class SystemSharedMemoryUnregisterContext(
    Context[pb.SystemSharedMemoryUnregisterRequest, pb.SystemSharedMemoryUnregisterResponse, ServingResources]
):
    """Serves SystemSharedMemoryUnregister: a region, or all."""

    def execute(
        self, request: pb.SystemSharedMemoryUnregisterRequest
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """Answer the request."""
        self.resources.system_memory.unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()


class CudaSharedMemoryStatusContext(
    Context[pb.CudaSharedMemoryStatusRequest, pb.CudaSharedMemoryStatusResponse, ServingResources]
):
    """Serves CudaSharedMemoryStatus: a region, or all."""

    def execute(self, request: pb.CudaSharedMemoryStatusRequest) -> pb.CudaSharedMemoryStatusResponse:
        """Answer the request."""
        response = pb.CudaSharedMemoryStatusResponse()
        name = request.name
        if name and name in self.resources.system_memory:
            raise NotFound(
                f"The region named '{name}' is registered as system shared memory, not CUDA shared memory"
            )
        for region in self.resources.cuda_memory.status(name):
            status = response.regions[region.name]
            status.name, status.device_id, status.byte_size = region.name, region.device_id, region.byte_size
        return response


class CudaSharedMemoryRegisterContext(
    Context[pb.CudaSharedMemoryRegisterRequest, pb.CudaSharedMemoryRegisterResponse, ServingResources]
):
    """Serves CudaSharedMemoryRegister."""

    def execute(self, request: pb.CudaSharedMemoryRegisterRequest) -> pb.CudaSharedMemoryRegisterResponse:
        """Answer the request."""
        _expect_free(request.name, self.resources.system_memory)
        region = CudaRegion(request.name, request.device_id, request.byte_size)
        self.resources.cuda_memory.register(region, request.raw_handle)
        return pb.CudaSharedMemoryRegisterResponse()


class CudaSharedMemoryUnregisterContext(
    Context[pb.CudaSharedMemoryUnregisterRequest, pb.CudaSharedMemoryUnregisterResponse, ServingResources]
):
    """Serves CudaSharedMemoryUnregister: a region, or all."""

    def execute(self, request: pb.CudaSharedMemoryUnregisterRequest) -> pb.CudaSharedMemoryUnregisterResponse:
        """Answer the request."""
        self.resources.cuda_memory.unregister(request.name)
        return pb.CudaSharedMemoryUnregisterResponse()


def _expect_free(name: str, other: SystemSharedMemory | CudaSharedMemory) -> None:
    """Raise AlreadyExists if a region of the other kind has the name: tensors say nothing of kinds."""
    if name in other:
        raise AlreadyExists(f"shared memory region '{name}' already in manager")
