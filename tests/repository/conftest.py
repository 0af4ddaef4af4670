"""Models and servers to test with are made by the modules beside the tests of the server."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "serving"))
