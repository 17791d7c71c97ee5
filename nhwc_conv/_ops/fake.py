"""What the ops return, without computing it: for meta and fake tensors, sizes symbolic or not."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from .._geometry import texts
from .checked import checked_forward, checked_input, checked_weight, checked_winograd
from .schema import FORWARD_OPS, completed, library


def fake_forward(x: Tensor, *args: Any) -> Tensor:
    return x.new_empty(checked_forward(x, *args).out_shape)


def fake_winograd(x: Tensor, *args: Any) -> Tensor:
    return x.new_empty(checked_winograd(x, *args).out_shape)


def fake_input(grad: Tensor, *args: Any) -> Tensor:
    return grad.new_empty(checked_input(grad, *args).x_shape)


def fake_weight(grad: Tensor, *args: Any) -> Tensor:
    g, dtype = checked_weight(grad, *args)
    return grad.new_empty(g.w_shape, dtype=dtype)


def heard_by_onnx(fake: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Under inference mode no kernel of ours at the Autograd key runs, and there the ops take their ONNX form."""

    @wraps(fake)
    def checked(*args: Any) -> Tensor:
        if torch.is_inference_mode_enabled() and torch.onnx.is_in_onnx_export():
            texts.fail(texts.ONNX_INFERENCE_MODE)
        return fake(*args)

    return checked


FAKES = {
    **{name: fake_forward for name in (*FORWARD_OPS, "_aten_conv2d")},
    "winograd": fake_winograd,
    **{name: fake_input for name in ("conv2d_input", "_aten_conv2d_input")},
    **{name: fake_weight for name in ("conv2d_weight", "_aten_conv2d_weight")},
}
for _name, _fake in FAKES.items():
    torch.library.register_fake(f"nhwc_conv::{_name}", heard_by_onnx(completed(_name, _fake)), lib=library)
