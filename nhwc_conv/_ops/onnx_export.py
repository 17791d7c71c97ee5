"""The ops in torch.onnx.export: as the aten operators whose ONNX forms torch knows.

The exporter decomposes a program before it translates it: every op is called once more, on tensors of symbolic sizes,
and its kernel at the Autograd key asks here. An entry in torch._decomp's table would need no asking, but fakes of
symbolic sizes would be computed by it, and Inductor refuses ops that have one where the environment says CI=1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .._geometry import texts
from .aten import convolution, input_gradient, nchw, padded
from .checked import checked_forward, checked_input, checked_weight, checked_winograd
from .finish import Finish
from .schema import FORWARD_OPS, completed
from .weight_order import in_hwio


def forward(x: Tensor, w: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
    return convolution(x, w, bias, checked_forward(x, w, bias, *geometry)).contiguous()


def winograd(x: Tensor, w: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
    return convolution(x, w, bias, checked_winograd(x, w, bias, *geometry)).contiguous()


def conv2d_input(grad: Tensor, w: Tensor, input_size: Sequence[int], *geometry: Any) -> Tensor:
    return input_gradient(grad, w, checked_input(grad, w, input_size, *geometry)).contiguous()


def conv2d_weight(grad: Tensor, x: Tensor, kernel_size: Sequence[int], *rest: Any) -> Tensor:
    """As a convolution over the batch, of images by gradients: ONNX has no other form of this gradient."""
    g, dtype = checked_weight(grad, x, kernel_size, *rest)
    image, symmetric = padded(x, g)
    per_group = image.unflatten(1, (g.groups, -1)).permute(2, 1, 0, 3, 4)  # [C/groups, groups, N, H, W]
    taps = F.conv2d(
        per_group.flatten(1, 2), nchw(grad).transpose(0, 1),
        stride=g.dilation, padding=symmetric, dilation=g.stride, groups=g.groups,
    )  # fmt: skip
    # Rows and columns that no output reads look like taps beyond the last one.
    return taps[:, :, : g.KH, : g.KW].permute(2, 3, 0, 1).contiguous().to(dtype)


def pack_weight(w: Tensor, groups: int, winograd: bool, oihw: bool) -> Tensor:
    """The weight itself: four dimensions, which no packing has, tell conv2d_packed so."""
    return in_hwio(w, oihw).clone()


def conv2d_packed(
    x: Tensor, packed: Tensor, weight_size: Sequence[int], bias: Tensor | None, *others: Any
) -> Tensor:
    *geometry, weight, oihw, nchw, residual = others[:9]
    if weight is None and packed.dim() != 4:
        texts.fail(texts.PACKED_BEFORE_EXPORT)
    w = packed if weight is None else in_hwio(weight, oihw)
    out = forward(x.movedim(-3, -1) if nchw else x, w, bias, *geometry)
    # In NCHW, as ONNX convolves: what an activation stood between, the exporter would leave transposed.
    added = residual if nchw or residual is None else residual.movedim(-1, -3)
    finished = Finish(*others[9:]).of(out.movedim(-1, -3), added)
    return (finished if nchw else finished.movedim(-3, -1)).contiguous()


_forms: dict[str, Callable[..., Tensor]] = {
    **{name: forward for name in FORWARD_OPS},
    "winograd": winograd,
    "conv2d_input": conv2d_input,
    "conv2d_weight": conv2d_weight,
    "pack_weight": pack_weight,
    "conv2d_packed": conv2d_packed,
}
FORMS = {name: completed(name, form) for name, form in _forms.items()}
