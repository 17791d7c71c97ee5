"""The device and the dtype of a model's tensors, which tracing may tell models that branch on them."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from .memory import check_inputs


class Kind(NamedTuple):
    device: torch.device
    dtype: torch.dtype


def kinds_of(model: nn.Module) -> set[Kind]:
    """Those of all its parameters and buffers but integers."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return {Kind(t.device, t.dtype) for t in tensors if t.is_floating_point()}


def kind_of(model: nn.Module) -> Kind | None:
    """The only one of these."""
    kinds = kinds_of(model)
    return kinds.pop() if len(kinds) == 1 else None


def assert_kind(traced: fx.GraphModule, kind: Kind) -> None:
    """Lets a graph that holds for one kind alone refuse inputs of others."""
    check_inputs(traced, check_kind, lambda name: kind)


@fx.wrap
def check_kind(value: Any, device: torch.device, dtype: torch.dtype) -> None:
    """TypeError: a tensor of another kind, unless it is of integers."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return
    if value.device != device or value.dtype != dtype:
        raise TypeError(
            f"expected tensors of {dtype} on {device}, of which this model was converted and on which it branches, "
            f"but got {value.dtype} on {value.device}: convert it again"
        )
