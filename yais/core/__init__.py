"""Threads, pools, futures and topology: knows no gRPC, no CUDA and no models."""
