"""KServe v2 on the wire: the one place that knows its messages."""
