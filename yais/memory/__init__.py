"""Buffers and where they come from."""
