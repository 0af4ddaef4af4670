"""Where the models and helpers of other tests are."""

import sys
from pathlib import Path

for folder in ("serving", "inference", "rpc"):
    sys.path.append(str(Path(__file__).parents[1] / folder))
