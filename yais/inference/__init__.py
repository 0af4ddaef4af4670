"""Models that take requests, whichever way these came in. Knows no wire."""
