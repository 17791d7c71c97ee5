"""Derivatives against finite differences, and second derivatives against those of F.conv2d."""

import oracle
import pytest
import torch
from cases import DTYPES, FEW, Case
from torch.autograd import gradcheck, gradgradcheck

OPS = ["im2col", "matmul", "conv2d"]

# As small as a geometry can be and still have its tails: finite differences cost a call per element.
SMALL = [
    Case("plain", (1, 3, 4, 2), (2, 2, 2, 3), bias=True),
    Case("padded", (2, 2, 3, 1), (3, 3, 1, 2), padding=1),
    Case("four_sides", (1, 2, 3, 2), (2, 3, 2, 2), padding=(1, 0, 0, 2), bias=True),
    Case("stride", (1, 5, 4, 2), (2, 2, 2, 2), stride=2),
    Case("stride_over_kernel", (1, 4, 5, 2), (1, 2, 2, 2), stride=(2, 3), bias=True),
    Case("dilation", (1, 4, 5, 1), (2, 2, 1, 3), dilation=(2, 3)),
    Case("dilation_stride", (1, 6, 5, 1), (2, 3, 1, 2), stride=2, padding=1, dilation=2),
    Case("groups", (1, 3, 3, 4), (2, 2, 2, 4), groups=2, bias=True),
    Case("depthwise", (1, 3, 4, 3), (2, 2, 1, 6), stride=2, padding=1, groups=3),
    Case("same", (1, 3, 4, 2), (2, 3, 2, 2), stride=2, auto_pad=1, bias=True),
    Case("same_lower", (1, 3, 4, 2), (2, 2, 2, 2), auto_pad=2),
    Case("unbatched", (3, 3, 2), (2, 2, 2, 2), bias=True),
    Case("pointwise", (2, 2, 2, 3), (1, 1, 3, 2)),
    Case("kernel_over_image", (1, 1, 2, 2), (3, 3, 2, 1), padding=1),
]
small = pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
every_op = pytest.mark.parametrize("op", OPS)


def function_and_leaves(op, case):
    leaves = tuple(t.requires_grad_() for t in case.tensors(torch.float64) if t is not None)
    return lambda *args: getattr(torch.ops.nhwc_conv, op)(*args, **case.geometry), leaves


@every_op
@small
def test_gradcheck(op, case):
    assert gradcheck(*function_and_leaves(op, case))


@every_op
@small
def test_gradgradcheck(op, case):
    assert gradgradcheck(*function_and_leaves(op, case))


@small
def test_gradient_ops_are_differentiable(case):
    x, w, _ = case.tensors(torch.float64)
    grad = torch.randn_like(oracle.forward(case, x, w)).contiguous().requires_grad_()
    ops = torch.ops.nhwc_conv

    def input_gradient(g, w):
        return ops.conv2d_input(g, w, case.x[-3:-1], **case.geometry)

    def weight_gradient(g, x):
        return ops.conv2d_weight(g, x, case.w[:2], **case.geometry)

    for function, other in ((input_gradient, w), (weight_gradient, x)):
        leaves = (grad, other.clone().requires_grad_())
        assert gradcheck(function, leaves) and gradgradcheck(function, leaves)


def second_derivatives(function, leaves, grad, directions):
    """Gradients, for x, w and grad, of the inner product of (dx, dw) with fixed directions."""
    leaves = [t.clone().requires_grad_() for t in leaves]
    grad = grad.clone().requires_grad_()
    first = torch.autograd.grad(function(*leaves), leaves, grad, create_graph=True)
    inner = sum((d * v).sum() for d, v in zip(first, directions, strict=True))
    return torch.autograd.grad(inner, [*leaves, grad])


@every_op
@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_double_backward_is_exact_on_integers(op, case, dtype):
    x, w, _ = case.tensors(dtype, integers=True)
    grad = case.grad_like(oracle.forward(case, x, w).to(dtype), integers=True)
    directions = [t.flip(0) for t in (x, w)]
    got = second_derivatives(
        lambda x, w: getattr(torch.ops.nhwc_conv, op)(x, w, None, **case.geometry), (x, w), grad, directions
    )
    double = [t.double() for t in (x, w, grad, *directions)]
    want = second_derivatives(lambda x, w: oracle.forward(case, x, w), double[:2], double[2], double[3:])
    for g, e in zip(got, want, strict=True):
        assert torch.equal(g, e.to(dtype))


@every_op
def test_third_derivative(op):
    case = SMALL[0]
    function, (x, w, bias) = function_and_leaves(op, case)
    expected = lambda *args: oracle.forward(case, *args)  # noqa: E731
    thirds = []
    for f in (function, expected):
        (dx,) = torch.autograd.grad(f(x, w, bias).pow(3).sum(), x, create_graph=True)
        (dw,) = torch.autograd.grad(dx.pow(2).sum(), w, create_graph=True)
        thirds.append(torch.autograd.grad(dw.sum(), x)[0])
    torch.testing.assert_close(*thirds)


@every_op
def test_gradient_flows_through_a_leaf_used_twice(op):
    """x and w may be the same tensor, and views of leaves accumulate."""
    t = torch.randn(2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda t: getattr(torch.ops.nhwc_conv, op)(t, t), (t,))


@every_op
def test_saved_tensors_changed_in_place_are_noticed(op):
    x, w, _ = SMALL[0].tensors(torch.float64)
    w.requires_grad_(), x.requires_grad_()
    out = getattr(torch.ops.nhwc_conv, op)(x, w)
    with torch.no_grad():
        w.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
