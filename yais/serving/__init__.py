"""The inference server: KServe v2 over gRPC."""
