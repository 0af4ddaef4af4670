"""Measuring a model at levels of load until it is stable, as Triton's perf_analyzer does."""
