"""bfloat16 and float16: float32's results on the widened inputs, rounded once, by every op on every instruction set.

But for products of pairs of bfloat16 on amx_bf16 and avx512_bf16: test_pairs.py.
"""

import functools

import pytest
import torch
import torch.nn.functional as F
from case import HALVES
from cases import BY_NAME, CASES
from conftest import MULTIPLY_PAIRS
from torch.profiler import profile

import nhwc_conv

OPS = torch.ops.nhwc_conv
with_halves = pytest.mark.parametrize("dtype", HALVES, ids=["bf16", "f16"])


def wide(t):
    return None if t is None else t.float()


def calls(case):
    """Of each op: a function of x, w, bias and grad, all of one dtype."""
    size, kernel, geometry = case.x[-3:-1], case.w[:2], case.geometry
    forward = ["im2col", "matmul", "conv2d", *["winograd"] * case.winograd_applies]
    return {
        **{name: lambda x, w, b, g, name=name: getattr(OPS, name)(x, w, b, **geometry) for name in forward},
        "packed": lambda x, w, b, g: OPS.conv2d_packed(
            x, OPS.pack_weight(w, case.groups), w.shape, b, **geometry
        ),
        "input": lambda x, w, b, g: OPS.conv2d_input(g, w, size, **geometry),
        "weight": lambda x, w, b, g: OPS.conv2d_weight(g, x, kernel, **geometry),
    }


def arguments(case, dtype):
    x, w, bias = case.tensors(dtype)
    return x, w, bias, case.grad_like(OPS.im2col(x, w, bias, **case.geometry))


@with_halves
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_is_float32_rounded(case, dtype, isa):
    halves = arguments(case, dtype)
    multiplies_pairs = isa in MULTIPLY_PAIRS and dtype == torch.bfloat16
    for name, call in calls(case).items():
        if multiplies_pairs and name not in ("winograd", "weight"):
            continue
        result, expected = call(*halves), call(*map(wide, halves)).to(dtype)
        assert result.dtype == dtype, name
        assert torch.equal(result, expected), name


@with_halves
@pytest.mark.parametrize(
    "name",
    [
        "kernel_4x7",
        "stride2_padded",
        "groups3_wide",
        "depthwise_valid",
        "groups_of_2_to_1",
        "planes_of_8",
        "winograd_chunks",
    ],
)
def test_layouts_and_threads_change_no_bit(name, dtype, isa, threads):
    case = BY_NAME[name]
    halves = arguments(case, dtype)
    strided = [None if t is None else torch.stack((t, t), -1)[..., 0] for t in halves]
    for call in calls(case).values():
        threads(1)
        expected = call(*halves)
        for count in (1, 3):
            threads(count)
            assert torch.equal(call(*strided), expected)


@with_halves
@pytest.mark.parametrize("outputs", [1, 2, 3, 4, 8, 16, 19])
def test_every_number_is_converted_as_torch_does(outputs, dtype, isa):
    """All 65,536 of them, times numbers that make denormal results, ties and results beyond the largest number."""
    inf, nan = float("inf"), float("nan")
    factors = [1, 0.5, inf, 3e-5, 65504, 1 / 3, 2**-14, -1.5, 1e-7, 7, nan, 1024, -3.3, 2**-10, 1e38, -2e-38]
    x = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype).view(1, 1, -1, 1)
    w = torch.tensor([*factors, 1.0078125, 2, -1], dtype=torch.float64)[:outputs].to(dtype).view(1, 1, 1, -1)
    bias = torch.full((outputs,), -0.0, dtype=dtype)  # else a product of -0 would become 0
    result, expected = OPS.im2col(x, w, bias), (x.float() * w.float()).to(dtype)
    assert torch.equal(result.isnan(), expected.isnan())
    same = result.view(torch.int16) == expected.view(torch.int16)
    assert (same | expected.isnan()).all()


@with_halves
def test_no_aten_convolution_and_no_copy_of_a_tensor(dtype):
    x, w = torch.randn(2, 14, 14, 32).to(dtype), torch.randn(3, 3, 32, 32).to(dtype).requires_grad_()
    with profile() as seen:
        OPS.im2col(x, w, None, 1, 1).sum().backward()
    names = {event.key for event in seen.key_averages()}
    assert "aten::convolution_overrideable" in names  # by our kernels
    foreign = [n for n in names if "convolution" in n and "overrideable" not in n]
    assert not foreign and not names & {"aten::copy_", "aten::to", "aten::clone"}


@with_halves
def test_gradients_of_every_argument(dtype):
    torch.manual_seed(0)
    x, w = torch.randn(2, 9, 8, 6, dtype=dtype), torch.randn(3, 3, 6, 10, dtype=dtype)
    halves = [t.requires_grad_() for t in (x, w, torch.randn(10, dtype=dtype))]
    doubles = [t.detach().double().requires_grad_() for t in halves]
    OPS.conv2d(*halves, padding=1).square().sum().backward()
    OPS.conv2d(*doubles, padding=1).square().sum().backward()
    for half, double in zip(halves, doubles, strict=True):
        assert half.grad.dtype == dtype
        error = (half.grad.double() - double.grad).norm() / double.grad.norm()
        assert error < 4 * torch.finfo(dtype).eps


@with_halves
def test_packed_weights_are_float32_and_others_are_refused(dtype):
    x, w = torch.randn(1, 6, 6, 8).to(dtype), torch.randn(3, 3, 8, 8).to(dtype)
    packed = OPS.pack_weight(w)
    assert packed.dtype == torch.float32
    name = str(dtype).removeprefix("torch.")
    for bad, other in ((packed.to(dtype), name), (packed.double(), "double")):
        with pytest.raises(RuntimeError, match=f"packed to be float for x of type {name}, but got {other}"):
            OPS.conv2d_packed(x, bad, w.shape)
        with pytest.raises(RuntimeError, match=f"packed to be float for x of type {name}, but got {other}"):
            OPS.conv2d_packed(x.to("meta"), bad.to("meta"), w.shape)


@with_halves
@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (3, 3, 1, 8), (3, 3, 8, 2)], ids=["dense", "lanes", "dot"])
def test_weights_packed_of_another_dtype_are_refused(dtype, shape):
    other = next(half for half in HALVES if half != dtype)
    x, groups = torch.ones(1, 6, 6, 8), 8 // shape[2]
    for packed_of in (other, torch.float32):
        packed = OPS.pack_weight(torch.ones(shape, dtype=packed_of), groups)
        for x_dtype in (dtype, other, torch.float32):
            call = functools.partial(OPS.conv2d_packed, x.to(x_dtype), packed, shape, groups=groups)
            if x_dtype == packed_of:
                call()
                continue
            with pytest.raises(RuntimeError, match="packed was packed for another .* or dtype"):
                call()


@with_halves
def test_a_model_that_is_prepacked(dtype):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 8, 1)).to(
        dtype
    )
    x = torch.randn(2, 3, 12, 12).to(dtype)
    model.eval()
    first, _, last = model
    converted = nhwc_conv.convert(model, inference=True, example=x)
    layers = [layer for layer in converted.modules() if isinstance(layer, nhwc_conv.Conv2d)]
    assert len(layers) == 2 and all(layer._packed is not None for layer in layers)
    with torch.inference_mode():
        hidden = F.conv2d(x.double(), first.weight.double(), first.bias.double()).to(dtype).relu()
        expected = F.conv2d(hidden.double(), last.weight.double(), last.bias.double())
        error = (converted(x).double() - expected).abs().max() / expected.abs().max()
        assert error < 4 * torch.finfo(dtype).eps


@with_halves
def test_opcheck(dtype):
    case = BY_NAME["kernel_3x3"]
    x, w, bias, grad = arguments(case, dtype)
    for op, tensors in (
        (OPS.conv2d, (x, w, bias)),
        (OPS.conv2d_input, (grad, w, case.x[-3:-1])),
        (OPS.conv2d_weight, (grad, x, case.w[:2])),
        (OPS.conv2d_packed, (x, OPS.pack_weight(w), list(w.shape), bias)),
    ):
        torch.library.opcheck(op.default, tensors, case.geometry)
