"""vmap rules: one call for all examples, by merging the mapped dimension B into one that is there already.

Mapped in one argument, B joins the batch, or the channels that only this argument has; mapped in both, every
example becomes a set of groups. Channels are kept in the order (group, B, channel of the group) or (B, group,
channel).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch._ops import OpOverload

from .derivatives import ForwardRule, InputRule, Rule, WeightRule


def batch_forward(
    B: int,
    op: OpOverload,
    x: Tensor,
    x_dim: int | None,
    w: Tensor,
    w_dim: int | None,
    bias: Tensor | None,
    bias_dim: int | None,
    geometry: tuple[Any, ...],
) -> Tensor:
    groups = geometry[3]
    if w_dim is None and bias_dim is None:
        out = op(_images(_front(x, x_dim)), w, bias, *geometry)
        return _split_images(out, B, x.dim() - 1)
    x, w, bias = _front(x, x_dim), _front(w, w_dim), _front(bias, bias_dim)
    if w_dim is None:
        out = _split_images(op(_images(x), w, None, *geometry), B, x.dim() - 1) if x_dim is not None else None
        out = op(x, w, None, *geometry).unsqueeze(0) if out is None else out
    elif x_dim is None:
        out = op(x, _join(w, groups), None, *geometry)
        out = _split(out, B, groups)
    else:
        out = op(_join(x, 1), _join(w, 1), None, *_with_groups(geometry, B))
        out = _split(out, B, 1)
    if bias is None:
        return out
    # One bias for all, or one for each example: [B, 1, ..., 1, O].
    return out + (bias if bias_dim is None else bias.view(B, *(1,) * (out.dim() - 2), -1))


def batch_input(
    B: int,
    op: OpOverload,
    grad: Tensor,
    grad_dim: int | None,
    w: Tensor,
    w_dim: int | None,
    size: tuple[int, int],
    _: None,
    geometry: tuple[Any, ...],
) -> Tensor:
    groups = geometry[3]
    grad, w = _front(grad, grad_dim), _front(w, w_dim)
    if w_dim is None:
        return _split_images(op(_images(grad), w, size, *geometry), B, grad.dim() - 1)
    if grad_dim is None:
        # B joins the input channels, which w has once for all groups.
        joined = w.movedim(0, 2).flatten(2, 3)
        return _split(op(grad, joined, size, *geometry), B, groups)
    return _split(op(_join(grad, 1), _join(w, 1), size, *_with_groups(geometry, B)), B, 1)


def batch_weight(
    B: int,
    op: OpOverload,
    grad: Tensor,
    grad_dim: int | None,
    x: Tensor,
    x_dim: int | None,
    size: tuple[int, int],
    _: None,
    geometry: tuple[Any, ...],
) -> Tensor:
    groups = geometry[3]
    grad, x = _front(grad, grad_dim), _front(x, x_dim)
    if x_dim is None:
        return _split(op(_join(grad, groups), x, size, *geometry), B, groups)
    if grad_dim is None:
        out = op(grad, _join(x, groups), size, *geometry)  # [KH, KW, B * C/groups, O]
        return out.unflatten(2, (B, -1)).movedim(2, 0)
    return _split(op(_join(grad, 1), _join(x, 1), size, *_with_groups(geometry, B)), B, 1)


BATCHING: dict[Rule, Callable[..., Tensor]] = {
    ForwardRule: batch_forward,
    InputRule: batch_input,
    WeightRule: batch_weight,
}


def _front(t: Any, dim: int | None) -> Any:
    return t if dim is None else t.movedim(dim, 0)


def _images(t: Tensor) -> Tensor:
    """[B, N, H, W, C] to [B * N, H, W, C]; [B, H, W, C] is a batch already."""
    return t.flatten(0, 1) if t.dim() == 5 else t


def _split_images(t: Tensor, B: int, dim: int) -> Tensor:
    """The reverse, for examples of `dim` dimensions."""
    return t.unflatten(0, (B, -1)) if dim == 4 else t


def _join(t: Tensor, groups: int) -> Tensor:
    """[B, ..., groups * c] to [..., groups * B * c]."""
    return t.unflatten(-1, (groups, -1)).movedim(0, -2).flatten(-3)


def _split(t: Tensor, B: int, groups: int) -> Tensor:
    """[..., groups * B * c] to [B, ..., groups * c]."""
    return t.unflatten(-1, (groups, B, -1)).movedim(-2, 0).flatten(-2)


def _with_groups(geometry: tuple[Any, ...], B: int) -> tuple[Any, ...]:
    """The geometry where each of B examples has its own groups: channels in the order (B, group, channel)."""
    return (*geometry[:3], geometry[3] * B, *geometry[4:])
