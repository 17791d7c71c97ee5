"""What the ops return, without computing it: for meta and fake tensors, sizes symbolic or not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .checked import checked_forward, checked_input, checked_weight, checked_winograd
from .schema import FORWARD_OPS, library


def fake_forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return x.new_empty(checked_forward(x, *args, **kwargs).out_shape)


def fake_winograd(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return x.new_empty(checked_winograd(x, *args, **kwargs).out_shape)


def fake_input(grad: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return grad.new_empty(checked_input(grad, *args, **kwargs).x_shape)


def fake_weight(grad: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return grad.new_empty(checked_weight(grad, *args, **kwargs).w_shape)


FAKES = {
    **{name: fake_forward for name in (*FORWARD_OPS, "_aten_conv2d")},
    "winograd": fake_winograd,
    **{name: fake_input for name in ("conv2d_input", "_aten_conv2d_input")},
    **{name: fake_weight for name in ("conv2d_weight", "_aten_conv2d_weight")},
}
for _name, _fake in FAKES.items():
    torch.library.register_fake(f"nhwc_conv::{_name}", _fake, lib=library)
