"""Models and servers to test with are made by the modules beside the tests of the server.

What commands print of measurements is compared as those of the library are.
"""

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / part) for part in ("serving", "load")]
