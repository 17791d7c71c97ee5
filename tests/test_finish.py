"""The last step of a convolution: activations and residuals, in the op, the function and the layers."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import MULTIPLY_PAIRS

import nhwc_conv
from nhwc_conv._ops.finish import ACTIVATIONS, NAMES, finish_argument
from nhwc_conv.nn import FusedConv2d

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # of torch.func.jvp
GIVEN = {"clamp": ("clamp", -0.5, 0.75), "leaky_relu": ("leaky_relu", 0.1), "elu": ("elu", 0.75)}
ARGUMENTS = {name: GIVEN.get(name, name) for name in ACTIVATIONS}
DTYPES = torch.float32, torch.float64, torch.bfloat16, torch.float16
# In units in the last place of the result: what forty million values have shown, rounded up.
ULPS = {"gelu": 3.2, "mish": 2.7}
CURVES = [
    "sigmoid",
    "silu",
    "tanh",
    "elu",
    "mish",
    "gelu",
    "gelu_tanh",
    "hardsigmoid",
    "hardswish",
    "leaky_relu",
]


def exactly(name, x):
    """The activation in float64, without what cancels in torch's own."""
    if name == "gelu":
        return 0.5 * x * torch.special.erfc(-x / math.sqrt(2))
    if name == "gelu_tanh":
        return x * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    if name == "mish":
        n = x.exp() * (x.exp() + 2)
        return torch.where(x > 20, x, x * n / (n + 2))
    if name == "tanh":
        return torch.tanh(x)
    finish = finish_argument(ARGUMENTS[name], False)
    return finish.of(x, None)


def through_identity(x, activation):
    """The activation of x [.., C], which a depthwise convolution with ones leaves as it is."""
    columns = x.shape[-1]
    w = torch.ones(1, 1, 1, columns, dtype=x.dtype)
    images = x.reshape(1, 1, -1, columns)
    return nhwc_conv.conv2d(images, w, groups=columns, activation=activation).view_as(x)


@pytest.mark.parametrize("name", CURVES)
def test_within_ulps_of_the_function(name, isa):
    torch.manual_seed(0)
    x = torch.cat(
        [4 * torch.randn(60, 64), torch.empty(60, 64).uniform_(-110, 20), 1e-3 * torch.randn(8, 64)]
    )
    expected, found = exactly(name, x.double()), through_identity(x, ARGUMENTS[name]).double()
    spacing = torch.nextafter(expected.float().abs(), torch.tensor(math.inf)) - expected.float().abs()
    error = (found - expected).abs() / spacing
    if name in ("sigmoid", "silu", "mish", "gelu", "gelu_tanh"):  # results that are nearly zero may be that
        tiny = expected.abs() < 2.0**-120
        assert (found[tiny].abs() < 2.0**-120).all()
        error[tiny] = 0
    assert error.max() < ULPS.get(name, 2.5), x.flatten()[error.argmax()]


@pytest.mark.parametrize("name", CURVES)
def test_float64(name, isa):
    torch.manual_seed(0)
    x = torch.cat(
        [4 * torch.randn(60, 64, dtype=torch.float64), torch.empty(9, 64).uniform_(-30, 20).double()]
    )
    expected = exactly(name, x)
    # What torch makes of the exponents of gelu's tails is off by as much more as they are large.
    bound = 1e-15 * (1 + x**2 if name.startswith("gelu") else 1) * expected.abs()
    assert ((through_identity(x, ARGUMENTS[name]) - expected).abs() <= bound + 1e-300).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES[1:])
def test_special_values_are_torchs(name, dtype, isa):
    """Of its float64, since its float32 has a NaN for gelu(infinity); but limits, where torch multiplies by zero."""
    values = [math.nan, math.inf, -math.inf, 0.0, 60000.0, -60000.0, 2.0**-14, -(2.0**-14)]
    x = torch.tensor([values * 8]).to(dtype)
    expected = finish_argument(ARGUMENTS[name], False).of(x.double(), None).to(dtype)
    if name in ("gelu", "gelu_tanh", "mish"):
        expected[x == -math.inf] = 0
    torch.testing.assert_close(through_identity(x, ARGUMENTS[name]), expected, equal_nan=True)


SHAPES = {  # x, w, the rest
    "view": ((2, 9, 7, 16), (3, 3, 16, 40), dict(padding=1)),
    "one by one": ((2, 5, 6, 24), (1, 1, 24, 70), {}),
    "winograd": ((1, 12, 12, 64), (3, 3, 64, 64), dict(padding=1)),
    "depthwise": ((2, 9, 8, 37), (3, 3, 1, 37), dict(padding=1, groups=37)),
    "few outputs": ((1, 8, 33, 16), (3, 3, 16, 3), dict(padding=1)),
    "pieces": ((1, 4, 4, 256), (3, 3, 256, 320), dict(padding=1)),
    "stream": ((1, 1, 1, 600), (1, 1, 600, 700), {}),
    "strided groups": ((2, 9, 9, 24), (3, 3, 8, 36), dict(stride=2, groups=3)),
}

BORDERS = {  # of tiles that lack some kernel rows or columns, and of remainders of vectors and rows
    "narrow": ((1, 23, 3, 32), (5, 5, 32, 72), dict(padding=2)),
    "rows": ((2, 11, 29, 16), (3, 3, 16, 24), dict(padding=(2, 0))),
    "rolling": ((1, 13, 21, 40), (3, 3, 1, 40), dict(padding=1, groups=40)),
    "strided depthwise": ((2, 14, 15, 67), (5, 5, 1, 67), dict(stride=2, padding=2, groups=67)),
    "few channels": ((1, 9, 16, 6), (3, 3, 1, 6), dict(padding=1, groups=6)),
    "two outputs a group": ((1, 9, 10, 24), (3, 3, 1, 48), dict(padding=1, groups=24)),
}


def operands(shape, dtype):
    torch.manual_seed(0)
    x, w, geometry = {**SHAPES, **BORDERS}[shape]
    x, w = torch.randn(x).to(dtype), (torch.randn(w) / math.prod(w[:3]) ** 0.5).to(dtype)
    bias = torch.randn(w.shape[3]).to(dtype)
    plain = nhwc_conv.conv2d(x, w, bias, **geometry)
    return x, w, bias, geometry, plain, torch.randn(plain.shape).to(dtype)


def layouts(t):
    """The same values: contiguous, as NCHW in memory, and with gaps."""
    yield t
    yield t.movedim(-1, 1).contiguous().movedim(1, -1)
    wide = t.new_zeros(*t.shape[:-1], 2 * t.shape[-1])
    wide[..., ::2] = t
    yield wide[..., ::2]


@pytest.mark.needs_extension
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_bits_are_those_of_the_steps(shape, dtype, isa):
    """Of any layout of the residual, of NHWC and NCHW results, packed or not."""
    x, w, bias, geometry, plain, residual = operands(shape, dtype)
    for name, first in itertools.product(("none", "relu", "clamp", "leaky_relu", "silu"), (False, True)):
        alone = through_steps(plain, residual, name, first)
        finish = dict(activation=ARGUMENTS[name], activation_first=first)
        for r in layouts(residual):
            found = nhwc_conv.conv2d(x, w, bias, **geometry, **finish, residual=r)
            assert torch.equal(found, alone), (name, first, r.stride())
        o, kh, kw = w.shape[3], *w.shape[:2]
        layer = FusedConv2d(x.shape[-1], o, (kh, kw), **geometry, **finish, dtype=dtype).eval()
        layer.weight.data, layer.bias.data = w.permute(3, 2, 0, 1).contiguous(), bias
        for packed, images in itertools.product((False, True), layouts(x.contiguous())):
            nhwc_conv.prepack(layer) if packed else layer.train().eval()
            with torch.no_grad():
                y = layer(images.movedim(-1, 1), residual.movedim(-1, 1))
            # Packed weights may be multiplied by another algorithm.
            same = torch.equal if not packed else lambda a, b: torch.allclose(a, b, 1e-4, 1e-5)
            assert same(y.movedim(1, -1), alone), (name, first, packed)


def through_steps(plain, residual, name, first):
    """The activation by an identity, and the sum by torch, both in the dtype of the sums."""
    activated = through_identity(plain if first else plain + residual, ARGUMENTS[name])
    return activated + residual if first else activated


@pytest.mark.needs_extension
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, *BORDERS])
def test_activations_alone(shape, dtype, isa):
    """Of tiles that finish their sums themselves, too: bits are those of a convolution, and then the activation."""
    x, w, bias, geometry, *_ = operands(shape, dtype)
    sums = nhwc_conv.conv2d(*(t.float() if dtype.itemsize < 4 else t for t in (x, w, bias)), **geometry)
    assert (sums < 0).any() and (sums > 1).any()
    for name in ("relu", "clamp", "leaky_relu", "silu"):
        expected = through_identity(sums, ARGUMENTS[name]).to(dtype)
        for image, weight in (*((i, w) for i in layouts(x)), *((x, other) for other in layouts(w))):
            found = nhwc_conv.conv2d(image, weight, bias, **geometry, activation=ARGUMENTS[name])
            if isa in MULTIPLY_PAIRS and dtype is torch.bfloat16:
                torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
            else:
                assert torch.equal(found, expected), (name, image.stride(), weight.stride())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
def test_halves_are_rounded_once(shape, dtype, isa):
    """As the float32 op on the widened tensors, rounded; but for products of pairs, whose sums differ."""
    x, w, bias, geometry, _, residual = operands(shape, dtype)
    wide = [t.float() for t in (x, w, bias)]
    for name, first in itertools.product(("relu", "silu", "hardswish"), (False, True)):
        finish = dict(activation=name, activation_first=first)
        for r in layouts(residual):
            found = nhwc_conv.conv2d(x, w, bias, **geometry, **finish, residual=r)
            expected = nhwc_conv.conv2d(*wide, **geometry, **finish, residual=r.float())
            if isa in MULTIPLY_PAIRS and dtype is torch.bfloat16:
                torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)
            else:
                assert torch.equal(found, expected.to(dtype)), (name, first, r.stride())


@pytest.mark.parametrize("algorithm", ["im2col", "matmul", "winograd"])
def test_named_algorithms(algorithm):
    x, w, bias, geometry, _, residual = operands("view", torch.float64)
    plain = nhwc_conv.conv2d(x, w, bias, **geometry, algorithm=algorithm)
    found = nhwc_conv.conv2d(
        x, w, bias, **geometry, algorithm=algorithm, activation="silu", residual=residual
    )
    torch.testing.assert_close(found, F.silu(plain + residual))


def test_autocast():
    x, w, bias, geometry, _, residual = operands("view", torch.float32)
    half = [t.bfloat16() for t in (x, w, bias, residual)]
    with torch.autocast("cpu", torch.bfloat16):
        found = nhwc_conv.conv2d(x, w, bias, **geometry, activation="silu", residual=residual)
    expected = nhwc_conv.conv2d(*half[:3], **geometry, activation="silu", residual=half[3])
    assert found.dtype is torch.bfloat16 and torch.equal(found, expected)


WRONG = {
    "unknown": (dict(activation="swish"), ValueError, r"activation='swish'.*valid ones are none, relu"),
    "numbers": (dict(activation=("clamp", 1)), ValueError, r"'clamp' to be followed by min, max.*\('clamp', 1\)"),
    "too many": (dict(activation=("relu", 1)), ValueError, r"'relu' to be followed by nothing"),
    "no number": (dict(activation=("elu", "a")), ValueError, r"'elu' to be followed by alpha"),
    "no name": (dict(activation=3), (TypeError, ValueError), "3"),
    "size": (dict(residual=torch.zeros(2, 9, 7, 39)), RuntimeError, r"residual to be of size \[2, 9, 7, 40\]"),
    "rank": (dict(residual=torch.zeros(9, 7, 40)), RuntimeError, r"residual of size \[9, 7, 40\]"),
    "dtype": (dict(residual=torch.zeros(2, 9, 7, 40).double()), RuntimeError, r"residual type \(residual: double\)"),
    "no tensor": (dict(residual=1.0), TypeError, "expected residual to be a Tensor, but got residual of type float"),
    "meta": (dict(residual=torch.zeros(2, 9, 7, 40, device="meta")), RuntimeError, "residual on meta"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments(wrong):
    x, w, bias, geometry, *_ = operands("view", torch.float32)
    given, error, text = WRONG[wrong]
    with pytest.raises(error, match=text):
        nhwc_conv.conv2d(x, w, bias, **geometry, **given)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("value", [-1, len(NAMES), 2**40])
def test_unknown_number(value, device):
    x, w, _, geometry, *_ = operands("view", torch.float32)
    packed = torch.ops.nhwc_conv.pack_weight(w).to(device)
    with pytest.raises(RuntimeError, match=f"activation={value}"):
        torch.ops.nhwc_conv.conv2d_packed(x.to(device), packed, [3, 3, 16, 40], activation=value)
