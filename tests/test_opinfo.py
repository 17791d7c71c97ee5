"""PyTorch's own samples of convolution, in every dtype it lists for the CPU: results, gradients, second gradients.

The answer is F.conv2d in float64 or complex128. The maps are linear in each argument, so the bound for a result is
gamma_n times the map of absolute values, as in oracle.assert_close; n counts real terms.
"""

import re

import oracle
import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db

import nhwc_conv
from nhwc_conv.nn.drop_in import conv2d_nchw

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),  # PyTorch's forward-mode formulas
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel"),  # F.conv2d's, about a copy
    pytest.mark.filterwarnings("ignore:Casting complex values to real"),
]
(INFO,) = (info for info in op_db if info.name == "nn.functional.conv2d")
(MODULE,) = (info for info in module_db if info.module_cls is torch.nn.Conv2d)


def by_name(dtype):
    return str(dtype)


DTYPES = sorted(INFO.supported_dtypes("cpu"), key=by_name)
DIFFERENTIABLE = sorted(INFO.supported_backward_dtypes("cpu"), key=by_name)


def functional(x, w, bias=None, **kwargs):
    """nhwc_conv.conv2d with F.conv2d's layouts."""
    return nhwc_conv.conv2d(x.movedim(-3, -1), w.permute(2, 3, 1, 0), bias, **kwargs).movedim(-1, -3)


def drop_in(x, w, bias=None, stride=1, padding=0, dilation=1, groups=1):
    return conv2d_nchw(x, w, bias, stride, padding, dilation, groups)


both = pytest.mark.parametrize("ours", [functional, drop_in], ids=["functional", "drop_in"])


def samples(dtype):
    """(tensors, keyword arguments) of every sample; a missing bias is missing."""
    torch.manual_seed(0)
    for sample in INFO.sample_inputs("cpu", dtype):
        yield [t for t in (sample.input, *sample.args) if t is not None], sample.kwargs


def draw(shape, dtype, units=False):
    """Random numbers, or -1, 0 and 1: every sum of their products here is exact, in every dtype."""
    if units:
        parts = [torch.randint(-1, 2, shape).to(dtype) for _ in range(2)]
        return parts[0] + 1j * parts[1] if dtype.is_complex else parts[0]
    return torch.testing.make_tensor(shape, device="cpu", dtype=dtype)


def exact(tensors):
    return [t.to(torch.complex128 if t.is_complex() else torch.float64) for t in tensors]


def absolute(tensors):
    return [t.abs().double() for t in tensors]


def first_and_second(function, leaves, grad, directions):
    """The result, its gradients, and those of their inner product with `directions`, also for `grad`."""
    leaves = [t.clone().requires_grad_() for t in leaves]
    grad = grad.clone().requires_grad_()
    out = function(*leaves)
    first = torch.autograd.grad(out, leaves, grad, create_graph=True)
    inner = sum((d * v.conj()).sum() for d, v in zip(first, directions, strict=True))
    second = torch.autograd.grad(inner.real if inner.is_complex() else inner, [*leaves[:2], grad])
    return [out.detach(), *(t.detach() for t in first), *second]


def terms(w, grad, groups=1):
    """The length of the sums in what first_and_second returns: result, dx, dw, dbias; for x, w and grad."""
    pixels = grad.numel() // w.shape[0]
    forward, dx = w[0].numel() + 1, w[:, 0].numel() // groups
    return forward, dx, pixels, pixels, dx, pixels, 2 * forward


def assert_within_rounding(actual, expected, magnitude, dtype, n):
    """Nothing is off by more than rounding: gamma_n times the magnitude."""
    assert actual.dtype == dtype and actual.shape == expected.shape
    # aten multiplies complex numbers by three real products, each of up to 2 |a| |b|, and adds them.
    factor, n = (8, 2 * n + 3) if dtype.is_complex else (1, n)
    real = torch.finfo(dtype).dtype
    bound = factor * oracle.gamma(n, getattr(torch, real)) * magnitude
    error = (actual.to(expected.dtype) - expected).abs()
    assert (error <= bound).all(), f"off by {float(error.max())}, may be {float(bound.max())}"


@both
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward(ours, dtype):
    for tensors, kwargs in samples(dtype):
        out = ours(*tensors, **kwargs)
        expected = F.conv2d(*tensors, **kwargs)
        assert out.dtype == expected.dtype
        if not (dtype.is_floating_point or dtype.is_complex):
            assert torch.equal(out, expected)
            continue
        magnitude = F.conv2d(*absolute(tensors), **kwargs)
        n = tensors[1][0].numel() + 1
        assert_within_rounding(out, F.conv2d(*exact(tensors), **kwargs), magnitude, dtype, n)


def check_derivatives(ours, theirs, leaves, dtype, groups, units):
    """ours(*leaves) in `dtype` against theirs(*leaves) in double precision: see first_and_second."""
    leaves = [draw(t.shape, dtype, units) for t in leaves]
    grad = draw(theirs(*exact(leaves)).shape, dtype, units)
    directions = [draw(t.shape, dtype, units) for t in leaves]
    results, expected, magnitudes = (
        first_and_second(function, to(leaves), *to([grad]), to(directions))
        for function, to in ((ours, list), (theirs, exact), (theirs, absolute))
    )
    lengths = list(terms(leaves[1], grad, groups))
    if len(leaves) == 2:
        del lengths[3]  # no bias
    for got, want, magnitude, n in zip(results, expected, magnitudes, lengths, strict=True):
        if units:
            assert torch.equal(got, want.to(dtype))
        else:
            assert_within_rounding(got, want, magnitude, dtype, n)


units = pytest.mark.parametrize("units", [False, True], ids=["rounding", "exact"])


@both
@units
@pytest.mark.parametrize("dtype", DIFFERENTIABLE, ids=str)
def test_gradients_and_second_gradients(ours, dtype, units):
    for tensors, kwargs in samples(dtype):
        functions = (lambda *ts, f=f: f(*ts, **kwargs) for f in (ours, F.conv2d))  # noqa: B023
        check_derivatives(*functions, tensors, dtype, kwargs.get("groups", 1), units)


@pytest.mark.parametrize(
    ("ours", "dtype"), [(functional, torch.float64), (drop_in, torch.float64), (functional, torch.complex128)]
)
def test_gradcheck_and_gradgradcheck(ours, dtype):
    options = dict(fast_mode=True, nondet_tol=INFO.gradcheck_nondet_tol)
    for tensors, kwargs in list(samples(dtype))[
        :: 2 if dtype.is_complex else 1
    ]:  # slow: only the batched ones
        leaves = [t.requires_grad_() for t in tensors]
        function = lambda *ts: ours(*ts, **kwargs)  # noqa: B023, E731
        assert gradcheck(function, leaves, check_forward_ad=True, check_batched_grad=True, **options)
        assert gradgradcheck(function, leaves, check_fwd_over_rev=True, **options)


@both
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint16], ids=str)
def test_dtypes_that_aten_refuses(ours, dtype):
    x, w = torch.ones(1, 2, 4, 4).to(dtype), torch.ones(3, 2, 2, 2).to(dtype)
    with pytest.raises(RuntimeError):
        F.conv2d(x, w)
    with pytest.raises(RuntimeError, match=r"(?i)type (bool|dtype 27)|for '(Bool|UInt16)'"):
        ours(x, w)


# Dimensions are counted as in HWIO.
OUR_WORDS = {
    "expected weight to be at least 3 at dimension 0": "expected weight to be at least 3 at dimension 3"
}


@both
def test_error_inputs(ours):
    errors = list(INFO.error_inputs("cpu"))
    assert len(errors) >= 10
    for error in errors:
        sample = error.sample_input
        if ours is functional and sample.args[0].dim() != 4:
            continue  # cannot be permuted
        with pytest.raises(error.error_type) as raised:
            ours(sample.input, *sample.args, **sample.kwargs)
        text = OUR_WORDS.get(error.error_regex, error.error_regex)
        assert type(raised.value) is error.error_type and re.search(text, str(raised.value))


@pytest.mark.parametrize("shape", [(4,), (4, 4), (1, 1, 4, 4, 4)], ids=str)
def test_ranks_that_the_drop_in_refuses(shape):
    """In F.conv2d's words, packed or not."""
    layer = nhwc_conv.Conv2d(1, 1, 2).eval()
    with pytest.raises(RuntimeError) as theirs:
        F.conv2d(torch.zeros(shape), layer.weight)
    for module in (layer, nhwc_conv.prepack(layer)):
        with torch.no_grad(), pytest.raises(RuntimeError) as ours:
            module(torch.zeros(shape))
        assert str(ours.value) == str(theirs.value)


@units
@pytest.mark.parametrize("dtype", DIFFERENTIABLE, ids=str)
def test_module_samples(dtype, units):
    """module_db's samples of Conv2d, with parameters and input in every dtype that F.conv2d differentiates."""
    torch.manual_seed(0)
    inputs = MODULE.module_inputs_func(MODULE, device="cpu", dtype=dtype, requires_grad=True, training=True)
    assert len(inputs) >= 4
    for sample in inputs:
        args, kwargs = sample.constructor_input.args, sample.constructor_input.kwargs
        layers = [cls(*args, **kwargs, dtype=dtype) for cls in (nhwc_conv.Conv2d, torch.nn.Conv2d)]
        functions = [
            lambda x, w, b, layer=layer: functional_call(layer, {"weight": w, "bias": b}, (x,))
            for layer in layers
        ]
        leaves = [sample.forward_input.args[0], *layers[1].parameters()]
        check_derivatives(*functions, leaves, dtype, 1, units)
        if dtype == torch.float64 and not units:
            leaves = [t.detach().requires_grad_() for t in leaves]
            assert gradgradcheck(functions[0], leaves, fast_mode=True)
