"""What clients see over gRPC is the same with frontend processes: the tests of one process, once more."""

from test_bad_requests import *  # noqa: F403
from test_classification import *  # noqa: F403
from test_model_infer import *  # noqa: F403
