"""Where the KServe messages are registered: a descriptor pool of their own.

Protobuf's default pool takes a name only once in a process, and Triton's client registers the very
same names there. With a pool of our own, both can be imported, in either order.

The price: what looks a name up in the default pool does not find these messages. Server reflection
has to be handed this pool, and ``google.protobuf.Any`` needs it when it is turned into JSON.
"""

import importlib.util
from types import ModuleType

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.symbol_database import SymbolDatabase

POOL = DescriptorPool()
"""Holds ``kserve.proto`` and ``model_config.proto``, and nothing else."""


def _private_builder() -> ModuleType:
    """Load a second copy of protobuf's module builder, one that registers in `POOL`.

    The original one also enters every message it builds into the default pool, when protobuf runs
    without its C extension.
    """
    spec = importlib.util.find_spec("google.protobuf.internal.builder")
    assert spec is not None
    assert spec.loader is not None
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    vars(builder)["_sym_db"] = SymbolDatabase(pool=POOL)
    return builder


BUILDER = _private_builder()
"""What the generated modules build their classes with."""
