"""PyTorch's own samples of convolution, in every dtype it lists for the CPU: results, gradients, second gradients.

The answer is F.conv2d in float64 or complex128.
"""

import re

import pytest
import torch
import torch.nn.functional as F
from samples import absolute, assert_within_rounding, check_derivatives, exact, in_order, op_info, samples
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call
from torch.testing._internal.common_modules import module_db

import nhwc_conv
from nhwc_conv.nn.drop_in import conv2d_nchw

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),  # PyTorch's forward-mode formulas
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel"),  # F.conv2d's, about a copy
    pytest.mark.filterwarnings("ignore:Casting complex values to real"),
]
INFO = op_info("nn.functional.conv2d")
(MODULE,) = (info for info in module_db if info.module_cls is torch.nn.Conv2d)


DTYPES = in_order(INFO.supported_dtypes("cpu"))
DIFFERENTIABLE = in_order(INFO.supported_backward_dtypes("cpu"))


def functional(x, w, bias=None, **kwargs):
    """nhwc_conv.conv2d with F.conv2d's layouts."""
    return nhwc_conv.conv2d(x.movedim(-3, -1), w.permute(2, 3, 1, 0), bias, **kwargs).movedim(-1, -3)


def drop_in(x, w, bias=None, stride=1, padding=0, dilation=1, groups=1):
    return conv2d_nchw(x, w, bias, stride, padding, dilation, groups)


both = pytest.mark.parametrize("ours", [functional, drop_in], ids=["functional", "drop_in"])


@both
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward(ours, dtype):
    for tensors, kwargs in samples(INFO, dtype):
        out = ours(*tensors, **kwargs)
        expected = F.conv2d(*tensors, **kwargs)
        assert out.dtype == expected.dtype
        if not (dtype.is_floating_point or dtype.is_complex):
            assert torch.equal(out, expected)
            continue
        magnitude = F.conv2d(*absolute(tensors), **kwargs)
        n = tensors[1][0].numel() + 1
        assert_within_rounding(out, F.conv2d(*exact(tensors), **kwargs), magnitude, dtype, n)


def lengths(w, out, groups=1):
    """Of the sums in the result, dx, dw, dbias, and in the second gradients for x, w and the output gradient."""
    pixels = out.numel() // w.shape[0]
    forward, dx = w[0].numel() + 1, w[:, 0].numel() // groups
    return forward, dx, pixels, pixels, dx, pixels, 2 * forward


units = pytest.mark.parametrize("units", [False, True], ids=["rounding", "exact"])


@both
@units
@pytest.mark.parametrize("dtype", DIFFERENTIABLE, ids=str)
def test_gradients_and_second_gradients(ours, dtype, units):
    for tensors, kwargs in samples(INFO, dtype):
        functions = (lambda *ts, f=f: f(*ts, **kwargs) for f in (ours, F.conv2d))  # noqa: B023
        sums = lengths(tensors[1], F.conv2d(*tensors, **kwargs), kwargs.get("groups", 1))
        check_derivatives(*functions, tensors, dtype, sums, units)


@pytest.mark.parametrize(
    ("ours", "dtype"), [(functional, torch.float64), (drop_in, torch.float64), (functional, torch.complex128)]
)
def test_gradcheck_and_gradgradcheck(ours, dtype):
    options = dict(fast_mode=True, nondet_tol=INFO.gradcheck_nondet_tol)
    for tensors, kwargs in list(samples(INFO, dtype))[
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
    with pytest.raises(RuntimeError, match=f"but got {dtype}".replace("torch.", "")):
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
        check_derivatives(*functions, leaves, dtype, lengths(leaves[1], functions[1](*leaves)), units)
        if dtype == torch.float64 and not units:
            leaves = [t.detach().requires_grad_() for t in leaves]
            assert gradgradcheck(functions[0], leaves, fast_mode=True)
