"""PyTorch's tools on our ops: FlopCounterMode counts them, the profiler shows them by their names."""

from math import prod

import pytest
import torch
import torch.nn.functional as F
from cases import BY_NAME
from conftest import DISABLED, SHORT_OPS
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import nhwc_conv

ops = torch.ops.nhwc_conv
CASES = ["notebook", "stride2_padded", "same_4x3_s2x2", "groups2", "depthwise_multiplier3", "unbatched"]


def counted(function):
    with FlopCounterMode(display=False) as counter:
        function()
    return {op.__name__: n for op, n in counter.get_flop_counts()["Global"].items()}


@pytest.mark.parametrize("name", CASES)
def test_flops_of_every_op(name):
    case = BY_NAME[name]
    x, w, bias = case.tensors(torch.float64)
    grad = ops.conv2d(x, w, bias, **case.geometry)
    flops = 2 * grad.numel() * prod(case.w[:3])
    packed = ops.pack_weight(w, case.groups)
    calls = {
        op: lambda op=op: getattr(ops, op)(x, w, bias, **case.geometry)
        for op in ("im2col", "matmul", "conv2d")
    }
    calls["conv2d_packed"] = lambda: ops.conv2d_packed(x, packed, w.shape, bias, **case.geometry)
    calls["conv2d_input"] = lambda: ops.conv2d_input(grad, w, case.x[-3:-1], **case.geometry)
    calls["conv2d_weight"] = lambda: ops.conv2d_weight(grad, x, case.w[:2], **case.geometry)
    for op, call in calls.items():
        assert counted(call) == {op: flops}
    leaves = [t.requires_grad_() for t in (x, w)]
    step = counted(lambda: ops.conv2d(*leaves, bias, **case.geometry).sum().backward())
    assert step == dict.fromkeys(("conv2d", "conv2d_input", "conv2d_weight"), flops)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layer", [
    lambda n: n.Conv2d(4, 8, 3, stride=2, padding=1), lambda n: n.Conv2d(4, 6, (2, 3), dilation=2)
])  # fmt: skip
def test_flops_are_those_of_torch(layer, dtype):
    """Forward and both gradients, of models that are no more than a layer."""
    x = torch.randn(2, 4, 9, 8, dtype=dtype, requires_grad=True)
    models = [layer(package).to(dtype) for package in (nhwc_conv, nn)]
    sums = [sum(counted(lambda m=m: m(x).sum().backward()).values()) for m in models]
    assert sums[0] == sums[1] > 0


def test_flops_of_a_transposed_layer():
    x = torch.randn(2, 5, 6, 4, requires_grad=True)
    ours = nhwc_conv.NHWCConvTranspose2d(4, 8, 3, stride=2, padding=1, output_padding=1)
    theirs = nn.ConvTranspose2d(4, 8, 3, stride=2, padding=1, output_padding=1)
    sums = [
        sum(counted(lambda: ours(x).sum().backward()).values()),
        sum(counted(lambda: theirs(x.movedim(-1, 1)).sum().backward()).values()),
    ]
    assert sums[0] == sums[1] > 0


def test_every_computing_op_has_a_formula():
    from torch.utils.flop_counter import flop_registry

    names = {name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if "nhwc_conv::" in name}
    # Short forms are not called where anything counts, but for this one.
    short = SHORT_OPS - {"_convolution_gradients"}
    assert names - short - {"pack_weight"} == {op.__name__ for op in flop_registry if "nhwc_conv" in str(op)}


def profiled(function):
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        function()
    return {event.key for event in profiler.key_averages()}


def test_the_profiler_shows_names():
    x = torch.randn(1, 8, 8, 4)
    transposed = nhwc_conv.NHWCConvTranspose2d(4, 8, 3)
    seen = profiled(lambda: transposed(x).sum().backward())
    assert {"nhwc_conv::conv2d_input", "nhwc_conv::conv2d_weight", "ConvolutionBackward"} <= seen
    for name in ("conv2d", "im2col", "matmul"):
        assert f"nhwc_conv::{name}" in profiled(lambda n=name: getattr(ops, n)(x, torch.ones(3, 3, 4, 2)))
    layer = nhwc_conv.Conv2d(4, 8, 3).eval()
    image = torch.randn(1, 4, 8, 8)
    recorded = "aten::convolution_overrideable", "aten::convolution_backward_overrideable"
    without = "nhwc_conv::conv2d", "nhwc_conv::conv2d_input", "nhwc_conv::conv2d_weight"
    assert set(without if DISABLED else recorded) <= profiled(
        lambda: layer(image.requires_grad_()).sum().backward()
    )
    with torch.no_grad():
        assert ("nhwc_conv::conv2d" if DISABLED else "nhwc_conv::_convolve") in profiled(lambda: layer(image))
        packed = nhwc_conv.prepack(layer)
        name = "nhwc_conv::conv2d_packed" if DISABLED else "nhwc_conv::_convolve_packed"
        assert name in profiled(lambda: packed(image))
    assert not {name for name in profiled(lambda: F.conv2d(x, torch.ones(2, 8, 1, 1))) if "nhwc" in name}
