"""The RPC framework: contexts on gRPC completion queues. Knows no models."""
