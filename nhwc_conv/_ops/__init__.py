"""The ops as PyTorch sees them: schemas, fakes, gradients, transforms, autocast, and what computes them.

A new forward op is one line in schema.FORWARD_OPS and one in fallback.ALGORITHMS. Defaults of arguments stand in the
schemas alone: functions behind the ops take all arguments, and `schema.completed` adds what PyTorch leaves out.
"""

from . import (  # noqa: F401
    aten,
    autocast,
    fake,
    fallback,
    flops,
    functorch,
    packed,
    sharding,
    without_derivatives,
)
from .autograd import SHORTCUTS
from .listeners import is_transformed, nothing_listens
from .mixed_precision import cast_as_active
from .recorded import convolve, is_recordable
from .schema import FORWARD_OPS, ops

__all__ = [
    "FORWARD_OPS",
    "SHORTCUTS",
    "cast_as_active",
    "convolve",
    "is_recordable",
    "is_transformed",
    "nothing_listens",
    "ops",
]
