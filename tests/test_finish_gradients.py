"""Derivatives of convolutions with activations and residuals."""

import pytest
import torch
from test_finish import ARGUMENTS, operands
from torch.autograd import forward_ad
from torch.func import functional_call, jvp, vmap

import nhwc_conv
from nhwc_conv._ops.finish import NAMES, finish_argument
from nhwc_conv.nn import FusedConv2d

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # of torch.func.jvp


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_derivatives(name, first):
    torch.manual_seed(0)
    x, w = (
        torch.randn(1, 4, 3, 2).double().requires_grad_(),
        torch.randn(2, 2, 2, 3).double().requires_grad_(),
    )
    bias, residual = (
        torch.randn(3).double().requires_grad_(),
        torch.randn(1, 3, 2, 3).double().requires_grad_(),
    )

    def call(x, w, bias, residual):
        finish = dict(activation=ARGUMENTS[name], activation_first=first)
        return nhwc_conv.conv2d(x, w, bias, residual=residual, **finish)

    tensors = x, w, bias, residual
    assert torch.autograd.gradcheck(call, tensors, check_forward_ad=True)
    if name not in ("none", "relu", "clamp", "leaky_relu", "hardsigmoid"):  # the others have none
        assert torch.autograd.gradgradcheck(call, tensors)
    assert torch.autograd.gradcheck(lambda x: call(x, w.detach(), None, None), (x,))
    assert torch.autograd.gradcheck(lambda r: call(x.detach(), w.detach(), None, r), (residual,))


@pytest.mark.parametrize("name", NAMES)
def test_bits_do_not_depend_on_gradients(name):
    """Promise 1: not on what autograd records."""
    x, w, bias, geometry, _, residual = operands("winograd", torch.float32)
    finish = dict(activation=ARGUMENTS[name], residual=residual)
    with torch.no_grad():
        expected = nhwc_conv.conv2d(x, w, bias, **geometry, **finish)
    found = nhwc_conv.conv2d(x, w.requires_grad_(), bias, **geometry, **finish)
    assert torch.equal(found, expected) and found.requires_grad


@pytest.mark.parametrize("name", ["relu", "silu", "clamp", "tanh"])
@pytest.mark.parametrize("nchw", [False, True])
def test_gradients_are_those_of_the_steps(name, nchw):
    """From the result where that tells them, and from the sums."""
    x, w, bias, geometry, _, residual = operands("view", torch.float64)
    leaves = [t.clone().requires_grad_() for t in (x, w, bias, residual)]
    grad = torch.randn(residual.shape, dtype=torch.float64)
    steps = finish_argument(ARGUMENTS[name], False).of(nhwc_conv.conv2d(*leaves[:3], **geometry), leaves[3])
    expected = torch.autograd.grad(steps, leaves, grad)
    if nchw:
        layer = FusedConv2d(16, 40, 3, padding=1, activation=ARGUMENTS[name], dtype=x.dtype)
        parameters = {"weight": leaves[1].permute(3, 2, 0, 1), "bias": leaves[2]}
        images = leaves[0].movedim(-1, 1), leaves[3].movedim(-1, 1)
        out = functional_call(layer, parameters, images).movedim(1, -1)
    else:
        finish = dict(activation=ARGUMENTS[name], residual=leaves[3])
        out = nhwc_conv.conv2d(*leaves[:3], **geometry, **finish)
    for a, b in zip(torch.autograd.grad(out, leaves, grad), expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", sorted({*NAMES} - {"relu", "sigmoid", "tanh"}))
def test_results_may_be_written_to(name):
    """But those of which torch's own derivatives are computed."""
    x, w, bias, geometry, _, residual = operands("view", torch.float64)
    expected, found = [], []
    for gradients, finish in ((expected, True), (found, False)):
        leaf = x.clone().requires_grad_()
        if finish:
            y = finish_argument(ARGUMENTS[name], False).of(
                nhwc_conv.conv2d(leaf, w, bias, **geometry) + residual, None
            )
        else:
            y = nhwc_conv.conv2d(leaf, w, bias, **geometry, activation=ARGUMENTS[name], residual=residual)
        y.mul_(2).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(found, expected)


def test_transforms():
    x, w, bias, geometry, _, residual = operands("view", torch.float64)

    def call(x, residual):
        return nhwc_conv.conv2d(x, w, bias, **geometry, activation="silu", residual=residual)

    expected = torch.stack([call(image, r) for image, r in zip(x, residual, strict=True)])
    torch.testing.assert_close(vmap(call)(x, residual), expected)
    tangents = torch.randn_like(x), torch.randn_like(residual)
    _, found = jvp(call, (x, residual), tangents)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(t, d) for t, d in zip((x, residual), tangents, strict=True)]
        torch.testing.assert_close(forward_ad.unpack_dual(call(*duals)).tangent, found)
