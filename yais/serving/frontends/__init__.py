"""Frontend processes: several that take requests, and one with the models that serves them all."""
