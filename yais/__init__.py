"""yais."""
