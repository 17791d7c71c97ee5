"""Winograd's algorithm: within its bound wherever it applies, chosen where it wins, refused where it cannot be."""

import os
import subprocess
import sys

import oracle
import pytest
import torch
from cases import CASES, DTYPES, Case
from conftest import ROOT

import nhwc_conv

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
ops = torch.ops.nhwc_conv

# Images of every remainder by the tiles of four and of two, and channels around the blocks of 64 and all vectors.
SIZES = [
    Case(f"{h}x{w}_pad{p}", (2, h, w, 5), (3, 3, 5, 6), padding=p)
    for h, w, p in (
        (3, 3, 0), (1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 4, 1), (5, 5, 1), (6, 6, 1), (7, 7, 1), (8, 9, 1), (2, 23, 1),
        (23, 2, 1), (9, 13, (0, 3, 2, 1)), (5, 6, (4, 0, 0, 5)), (12, 31, 0), (14, 10, 2),
    )
]  # fmt: skip
CHANNELS = [
    Case(f"{c}_to_{o}_groups{g}", (1, 6, 9, c), (3, 3, c // g, o), padding=1, groups=g, bias=o % 2 == 0)
    for c, o, g in (
        (1, 1, 1), (3, 2, 1), (7, 33, 1), (8, 16, 1), (16, 100, 1), (63, 17, 1), (65, 65, 1), (129, 48, 1), (200, 7, 1),
        (12, 18, 3), (64, 64, 2), (10, 20, 5), (96, 34, 2), (128, 130, 1), (130, 128, 1), (200, 1, 1), (300, 4, 2),
    )
]  # fmt: skip
# Weights too many to be transformed before the first item; more tiles than one block; more than one chunk of the
# weight gradient.
LARGE = [
    Case("many_weights", (1, 7, 9, 140), (3, 3, 140, 150), padding=1, bias=True),
    Case("many_tiles", (2, 30, 41, 9), (3, 3, 9, 20), padding=1),
    Case("many_chunks", (3, 26, 30, 70), (3, 3, 70, 90), padding=1),
]
APPLIES = [case for case in CASES if case.winograd_applies] + [*SIZES, *CHANNELS, *LARGE]
every_case = pytest.mark.parametrize("case", APPLIES, ids=lambda case: case.name)


def check_forward(case, actual, x, w, bias=None):
    magnitude = oracle.known_forward(case, x.abs(), w.abs(), None if bias is None else bias.abs())
    oracle.assert_close_to_largest(actual, oracle.known_forward(case, x, w, bias), magnitude)


@every_dtype
@every_case
def test_forward(case, dtype, isa):
    x, w, bias = case.tensors(dtype)
    out = ops.winograd(x, w, bias, **case.geometry)
    assert out.dtype == dtype and out.is_contiguous()
    check_forward(case, out, x, w, bias)


@every_dtype
@every_case
def test_gradients(case, dtype, isa):
    x, w, bias = case.tensors(dtype)
    grad = case.grad_like(oracle.known_forward(case, x, w).to(dtype))
    leaves = [t.requires_grad_() for t in (x, w, bias) if t is not None]
    actual = torch.autograd.grad(ops.winograd(*leaves, **case.geometry), leaves, grad)
    leaves = [t.detach() for t in (x, w, bias) if t is not None] + [None] * (bias is None)
    expected = oracle.known_gradients(case, *leaves, grad)
    magnitude = oracle.known_gradients(case, *(None if t is None else t.abs() for t in leaves), grad.abs())
    for got, want, size in zip(actual, expected, magnitude, strict=True):
        oracle.assert_close_to_largest(got, want, size)
    args = [*case.geometry.values(), 2]
    assert torch.equal(actual[0], ops.conv2d_input(grad, w.detach(), x.shape[-3:-1], *args))
    assert torch.equal(actual[1], ops.conv2d_weight(grad, x.detach(), w.shape[:2], *args))


@pytest.mark.needs_extension
@pytest.mark.parametrize("C", [8, 64, 130, 512])
def test_error_does_not_grow_with_channels(C):
    case = Case(f"rms_{C}", (1, 12, 12, C), (3, 3, C, 16), padding=1)
    x, w, _ = case.tensors(torch.float32)
    grad = case.grad_like(oracle.known_forward(case, x, w).float())
    actual = ops.winograd(x, w, padding=1), ops.conv2d_weight(grad, x, (3, 3), padding=1, algorithm=2)
    expected = oracle.known_forward(case, x, w), oracle.known_gradients(case, x, w, None, grad)[1]
    for got, want, bound in zip(actual, expected, (2.0e-6, 2.5e-6), strict=True):
        assert (got.double() - want).square().mean().sqrt() <= bound * want.square().mean().sqrt()


BITS = [
    case for case in APPLIES if case.name in ("many_weights", "many_tiles", "64_to_64_groups2", "7x7_pad1")
]


@pytest.mark.needs_extension
@every_dtype
@pytest.mark.parametrize("case", BITS, ids=lambda case: case.name)
def test_same_bits_on_any_threads_in_any_batch_and_layout(case, dtype, isa, threads):
    x, w, bias = case.tensors(dtype)
    size = x.shape[-3:-1]
    grad = case.grad_like(oracle.known_forward(case, x, w).to(dtype))
    calls = {
        "forward": lambda x, grad: ops.winograd(x, w, bias, **case.geometry),
        "input_gradient": lambda x, grad: ops.conv2d_input(grad, w, size, **case.geometry, algorithm=2),
        "weight_gradient": lambda x, grad: ops.conv2d_weight(grad, x, (3, 3), **case.geometry, algorithm=2),
    }
    for name, call in calls.items():
        threads(1)
        expected = call(x, grad)
        for count in (2, 3, 8):
            threads(count)
            assert torch.equal(call(x, grad), expected)
        strided = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (x, grad)]
        assert torch.equal(call(*strided), expected)
        nchw = [t.movedim(-1, 1).contiguous().movedim(1, -1) for t in (x, grad)]
        assert torch.equal(call(*nchw), expected)
        if name != "weight_gradient":
            assert torch.equal(call(torch.cat([x] * 4), torch.cat([grad] * 4)), torch.cat([expected] * 4))


@pytest.mark.needs_extension
def test_auto_takes_it_where_it_wins_and_flags_allow():
    x, w = torch.randn(1, 12, 12, 32), torch.randn(3, 3, 32, 32)
    expected = ops.winograd(x, w, padding=1)
    assert nhwc_conv.explain(x.shape, w.shape, padding=1)["algorithm"] == "winograd"
    assert torch.equal(nhwc_conv.conv2d(x, w, padding=1), expected)
    assert torch.equal(ops.conv2d_packed(x, ops.pack_weight(w), w.shape, padding=1), expected)
    with nhwc_conv.flags(winograd=False):
        direct = nhwc_conv.conv2d(x, w, padding=1)
        assert torch.equal(direct, ops.im2col(x, w, padding=1)) and not torch.equal(direct, expected)
        assert torch.equal(ops.conv2d_packed(x, ops.pack_weight(w), w.shape, padding=1), direct)
        assert nhwc_conv.explain(x.shape, w.shape, padding=1)["algorithm"] == "im2col"
        assert torch.equal(nhwc_conv.conv2d(x, w, padding=1, algorithm="winograd"), expected)
    assert torch.equal(nhwc_conv.conv2d(x, w, padding=1), expected)
    for other in (dict(stride=2), dict(dilation=2)):
        assert nhwc_conv.explain(x.shape, w.shape, padding=1, **other)["algorithm"] != "winograd"


@pytest.mark.needs_extension
def test_what_forward_was_forbidden_backward_does_not_do():
    x, w = torch.randn(1, 12, 12, 32), torch.randn(3, 3, 32, 32, requires_grad=True)
    with nhwc_conv.flags(winograd=False):
        out = nhwc_conv.conv2d(x, w, padding=1)
    direct = ops.conv2d_weight(out.detach(), x, (3, 3), padding=1, algorithm=1)
    assert torch.equal(torch.autograd.grad(out, w, out.detach())[0], direct)
    auto = ops.conv2d_weight(out.detach(), x, (3, 3), padding=1)
    assert torch.equal(auto, ops.conv2d_weight(out.detach(), x, (3, 3), padding=1, algorithm=2))
    assert not torch.equal(auto, direct)


def test_packed_weights_take_winograd_only_where_they_hold_its_own():
    """float64 at 7x7x512: transforming them in each call costs more than it saves, and they are too many to keep."""
    x, w = torch.randn(1, 7, 7, 512, dtype=torch.float64), torch.randn(3, 3, 512, 512, dtype=torch.float64)
    result = ops.conv2d_packed(x, ops.pack_weight(w), w.shape, padding=1)
    assert torch.equal(result, ops.im2col(x, w, padding=1))


def test_packed_weights_are_the_same_every_time():
    """Nothing that happens to lie in memory gets into their gaps."""
    for w in (torch.randn(1, 1, 40, 17), torch.randn(3, 3, 40, 17, dtype=torch.float64)):
        first = ops.pack_weight(w)
        for junk in (float("nan"), 1e30):
            torch.full(first.shape, junk, dtype=first.dtype)  # freed at once
            assert torch.equal(ops.pack_weight(w), first)


def test_flags_are_restored_and_returned():
    assert nhwc_conv.set_flags(winograd=False) == {"winograd": True}
    assert nhwc_conv.set_flags(winograd=True) == {"winograd": False}
    with pytest.raises(KeyError), nhwc_conv.flags(winograd=False):
        raise KeyError
    assert nhwc_conv.set_flags(winograd=True) == {"winograd": True}


@pytest.mark.needs_extension
def test_environment_variable_turns_it_off():
    program = (
        "import nhwc_conv; print(nhwc_conv.explain((1, 12, 12, 32), (3, 3, 32, 32), padding=1)['algorithm'])"
    )
    for value, algorithm in (("0", "im2col"), ("1", "winograd")):
        env = {**os.environ, "NHWC_CONV_WINOGRAD": value}
        out = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True
        )
        assert out.stdout.strip() == algorithm, out.stderr


@pytest.mark.needs_extension
@every_dtype
@pytest.mark.parametrize("case", [*LARGE, *CHANNELS], ids=lambda case: case.name)
def test_prepacked(case, dtype, isa):
    """With weights transformed ahead, and with weights too many for that, or not asked to be."""
    x, w, bias = case.tensors(dtype)
    for winograd in (True, False):
        packed = ops.pack_weight(w, case.groups, winograd)
        out = ops.conv2d_packed(x, packed, w.shape, bias, **case.geometry)
        check_forward(case, out, x, w, bias)


@pytest.mark.parametrize(
    "name, shown, w, extra",
    [
        ("kernel_size", "[5, 3]", (5, 3, 4, 6), {}),
        ("stride", "[1, 2]", (3, 3, 4, 6), dict(stride=(1, 2))),
        ("dilation", "[2, 2]", (3, 3, 4, 6), dict(dilation=2)),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_it_cannot_compute_is_refused(name, shown, w, extra, device):
    x, w = torch.randn(1, 9, 9, 4, device=device), torch.randn(w, device=device)
    grad = ops.conv2d(x, w, **extra)
    for call in (
        lambda: nhwc_conv.conv2d(x, w, **extra, algorithm="winograd"),
        lambda: ops.conv2d_input(grad, w, [9, 9], **extra, algorithm=2),
        lambda: ops.conv2d_weight(grad, x, w.shape[:2], **extra, algorithm=2),
    ):
        with pytest.raises(RuntimeError) as error:
            call()
        assert f"for winograd, but got {name}={shown}" in str(error.value)


@pytest.mark.needs_extension
def test_a_nan_stays_in_its_tiles():
    x, w = torch.randn(1, 16, 16, 8), torch.randn(3, 3, 8, 8)
    x[0, 9, 9, 3] = float(
        "nan"
    )  # read by the tiles of outputs 4..7 and 8..11 (padding 1: rows 3..8 and 7..12)
    bad = ops.winograd(x, w, padding=1).isnan().any(-1)[0]
    assert bad[8:12, 8:12].all() and not bad[:8].any() and not bad[12:].any() and not bad[:, :8].any()


def test_derivatives_of_derivatives():
    x = torch.randn(2, 5, 6, 2, dtype=torch.float64, requires_grad=True)
    w = torch.randn(3, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    call = lambda x, w: nhwc_conv.conv2d(x, w, padding=1, algorithm="winograd")  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, w)) and torch.autograd.gradgradcheck(call, (x, w))
