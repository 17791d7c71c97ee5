"""Who needs to see an op: where nobody does, what is called may be computed in a shorter way."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._C import _get_tracing_state as tracing_state
from torch._C import _is_fwd_grad_enabled as forward_ad_enabled
from torch._C._functorch import get_dynamic_layer_stack_depth as transforms
from torch.autograd import forward_ad

PLAIN = (torch.Tensor, torch.nn.Parameter)


def nothing_listens() -> bool:
    """Whether no compiler, transform, forward AD or tracer needs to see the op that the user called."""
    return not (torch.compiler.is_compiling() or is_transformed())


def is_transformed() -> bool:
    """Whether a transform, forward AD or torch.jit's tracer needs to see the op that the user called."""
    # Not transforms_active(): torch.compile would write it into the graph.
    return transforms() > 0 or forward_ad._current_level >= 0 or tracing_state() is not None


def needs_gradient(x: Tensor, w: Tensor, *others: Tensor | None) -> bool:
    """Whether autograd records an op on these."""
    return torch.is_grad_enabled() and (
        x.requires_grad or w.requires_grad or any([t is not None and t.requires_grad for t in others])
    )


def has_tangents() -> bool:
    return forward_ad._current_level >= 0 and forward_ad_enabled()
