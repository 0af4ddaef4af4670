"""Where the helpers of the tests of the server are."""

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / "serving"), str(Path(__file__).parents[1] / "inference")]
