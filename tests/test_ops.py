"""Every direct op over the whole table against the oracle: values, exactness, gradients. See test_winograd.py."""

import oracle
import pytest
import torch
from cases import CASES, DTYPES, FEW

import nhwc_conv

OPS = ["im2col", "matmul", "conv2d"]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
every_op = pytest.mark.parametrize("op", OPS)


@pytest.fixture(autouse=True)
def direct():
    with nhwc_conv.flags(winograd=False):
        yield


def run(op, case, x, w, bias=None):
    return getattr(torch.ops.nhwc_conv, op)(x, w, bias, **case.geometry)


def input_gradient(case, grad, w):
    return torch.ops.nhwc_conv.conv2d_input(grad, w, case.x[-3:-1], **case.geometry)


def weight_gradient(case, grad, x):
    return torch.ops.nhwc_conv.conv2d_weight(grad, x, case.w[:2], **case.geometry)


def gradients(op, case, x, w, bias, grad):
    leaves = [t.clone().requires_grad_() for t in (x, w, bias) if t is not None]
    return torch.autograd.grad(run(op, case, *leaves), leaves, grad)


@every_op
@every_dtype
@every_case
def test_forward(op, case, dtype, isa):
    x, w, bias = case.tensors(dtype)
    out = run(op, case, x, w, bias)
    assert out.dtype == dtype and out.is_contiguous()
    oracle.check_forward(case, out, x, w, bias)


@every_op
@every_dtype
@every_case
def test_gradients(op, case, dtype, isa):
    x, w, bias = case.tensors(dtype)
    grad = case.grad_like(oracle.known_forward(case, x, w).to(dtype))
    actual = gradients(op, case, x, w, bias, grad)
    assert all(g.dtype == dtype for g in actual)
    oracle.check_gradients(case, actual, x, w, bias, grad)


@every_op
@every_dtype
@every_case
def test_exact_on_integers(op, case, dtype, isa):
    x, w, bias = case.tensors(dtype, integers=True)
    leaves = [t.requires_grad_() for t in (x, w, bias) if t is not None]
    out = run(op, case, *leaves)
    assert torch.equal(out, oracle.known_forward(case, x, w, bias).to(dtype))
    grad = case.grad_like(out, integers=True)
    expected = oracle.known_gradients(case, x, w, bias, grad)
    for got, want in zip(torch.autograd.grad(out, leaves, grad), expected, strict=True):
        assert torch.equal(got, want.to(dtype))


@every_dtype
@every_case
def test_gradient_ops(case, dtype, isa):
    x, w, _ = case.tensors(dtype)
    grad = case.grad_like(oracle.known_forward(case, x, w).to(dtype))
    actual = input_gradient(case, grad, w), weight_gradient(case, grad, x)
    assert all(g.is_contiguous() and g.dtype == dtype for g in actual)
    oracle.check_gradients(case, actual, x, w, None, grad)


@every_op
@pytest.mark.parametrize("needed", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1)])
@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_only_the_gradients_asked_for(op, case, needed):
    x, w, _ = case.tensors(torch.float64)
    leaves = [x, w, torch.randn(case.w[3], dtype=torch.float64)]
    for leaf, need in zip(leaves, needed, strict=True):
        leaf.requires_grad_(bool(need))
    out = run(op, case, *leaves)
    grad = case.grad_like(out)
    out.backward(grad)
    assert [leaf.grad is not None for leaf in leaves] == [bool(need) for need in needed]
    oracle.check_gradients(case, [leaf.grad for leaf in leaves], *(t.detach() for t in leaves), grad)


@every_op
def test_nothing_is_recorded_without_need(op):
    x, w, bias = FEW[0].tensors(torch.float32)
    assert run(op, FEW[0], x, w, bias).grad_fn is None
    with torch.no_grad():
        assert not run(op, FEW[0], x, w.requires_grad_(), bias).requires_grad


def test_arguments_left_out_are_the_documented_defaults():
    x, w, _ = FEW[0].tensors(torch.float64)
    for op in OPS:
        explicit = getattr(torch.ops.nhwc_conv, op)(x, w, None, [1, 1], [0, 0], [1, 1], 1, 0)
        assert torch.equal(getattr(torch.ops.nhwc_conv, op)(x, w), explicit)


@pytest.mark.needs_extension
def test_the_tests_know_every_instruction_set():
    from conftest import KNOWN_ISAS

    from nhwc_conv._extension import module as extension

    assert set(extension.instruction_sets()) <= set(KNOWN_ISAS)
    assert (
        "baseline" in extension.instruction_sets()
        and extension.instruction_set() in extension.instruction_sets()
    )
