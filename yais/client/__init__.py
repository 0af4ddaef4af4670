"""The other side of the wire: models of a remote server."""
