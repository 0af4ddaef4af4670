"""Memory, streams and events of NVIDIA GPUs, on cuda-core (the extra `cuda`); see docs/cuda.md."""
