"""Tensors that no convolution takes, by type or layout: refused by name, alike in the op and in its fake."""

import pytest
import torch
from test_bad_input import FORWARD, GRADIENT, good, on_meta, run

import nhwc_conv
from nhwc_conv import Conv2d, NHWCConv2d, NHWCConvTranspose2d
from nhwc_conv._geometry.texts import CONVOLVED_DTYPES

OPS = [*FORWARD, "winograd", *GRADIENT]
TYPES = {dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)} - CONVOLVED_DTYPES
TYPES = sorted((dtype for dtype in TYPES if not str(dtype).startswith("torch.q")), key=str)
LAYOUTS = {
    "torch.sparse_coo": lambda t: t.to_sparse(),
    "torch.sparse_csr": lambda t: t.flatten(0, -2).to_sparse_csr(),
    "torch.sparse_bsr": lambda t: t.flatten(0, -2).to_sparse_bsr((1, 2)),
    "torch._mkldnn": lambda t: t.to_mkldnn(),
}
layouts = pytest.mark.parametrize(("layout", "make"), LAYOUTS.items(), ids=LAYOUTS)
NO_WARNING = "ignore:.*(sparse|Sparse|ComplexHalf).*(beta|invariant|experimental)"
pytestmark = [pytest.mark.filterwarnings(NO_WARNING)]
X, W = torch.randn(2, 5, 6, 4), torch.randn(3, 3, 4, 4)
LAYERS = [NHWCConv2d(4, 4, 3), NHWCConvTranspose2d(4, 4, 3), Conv2d(4, 4, 3)]
layers = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)


def names_of_tensors(op):
    return [name for name, value in good(op).items() if isinstance(value, torch.Tensor)]


def of_type(shape, dtype):
    return torch.empty(shape, dtype=dtype)


@pytest.mark.filterwarnings("ignore:BComplex32 support is experimental")
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_types(op, dtype):
    """One tensor of that type, or all of them."""
    names = names_of_tensors(op)
    for wrong in (*([name] for name in names), names):
        arguments = {**good(op), **{name: of_type(good(op)[name].shape, dtype) for name in wrong}}
        expected = (
            f"expected {wrong[0]} to be of a type that PyTorch convolves, "
            f"but got {str(dtype).removeprefix('torch.')}: convert it first"
        )
        for variant in (arguments, on_meta(arguments)):
            with pytest.raises(RuntimeError) as error:
                run(op, variant)
            assert str(error.value) == expected


@pytest.mark.parametrize("quantise", [
    lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.quint8),
    lambda t: torch.quantize_per_channel(t, torch.ones(4), torch.zeros(4), t.dim() - 1, torch.qint8),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*[Qq]uant")
def test_quantised(quantise):
    x, w = quantise(X), quantise(W)
    for first, second in ((x, w), (x, W), (X, w)):
        for function in (nhwc_conv.conv2d, nhwc_conv.conv_transpose2d, torch.ops.nhwc_conv.conv2d):
            with pytest.raises(
                RuntimeError, match="expected [xw] to be of a type .* got qu?int8: convert it first"
            ):
                function(first, second)
    for layer in LAYERS[:2]:
        with pytest.raises(RuntimeError, match="expected x to be of a type .* got qu?int8: convert it first"):
            layer(x)


@pytest.mark.parametrize("dtype", sorted(CONVOLVED_DTYPES - {torch.float32, torch.float64}, key=str), ids=str)
def test_both_types_of_a_mixture_are_named_alike(dtype):
    arguments = {**good("conv2d"), "w": of_type((3, 3, 4, 8), dtype)}
    text = (
        f"Input type (x: float) and weight type (w: {str(dtype).removeprefix('torch.')}) should be the same"
    )
    for variant in (arguments, on_meta(arguments)):
        with pytest.raises(RuntimeError) as error:
            run("conv2d", variant)
        assert str(error.value) == text


@pytest.mark.parametrize("op", OPS)
@layouts
def test_layouts(op, layout, make):
    names = names_of_tensors(op)
    for wrong in (*([name] for name in names), names):
        arguments = good(op)
        try:
            arguments.update({name: make(arguments[name]) for name in wrong})
        except IndexError:
            assert "bias" in wrong  # has too few dimensions for it
            continue
        expected = (
            f"expected {wrong[0]} to be a dense tensor, but got one of layout {layout}: "
            f"convert it first, by {wrong[0]}.to_dense()"
        )
        with pytest.raises(RuntimeError) as error:
            run(op, arguments)
        assert str(error.value) == expected
        if layout == "torch.sparse_coo":  # the others have no copies on meta
            with pytest.raises(RuntimeError) as fake:
                run(op, on_meta(arguments))
            assert str(fake.value) == expected


@layouts
def test_layouts_of_packed_weights(layout, make):
    ops = torch.ops.nhwc_conv
    with pytest.raises(
        RuntimeError, match=f"expected w to be a dense tensor, but got one of layout {layout}"
    ):
        ops.pack_weight(make(W))
    with pytest.raises(
        RuntimeError, match=f"expected x to be a dense tensor, but got one of layout {layout}"
    ):
        ops.conv2d_packed(make(X), ops.pack_weight(W), W.shape)


@layouts
@layers
@pytest.mark.parametrize("packed", [False, True])
def test_layers(layer, layout, make, packed):
    name = "input" if isinstance(layer, Conv2d) else "x"
    text = f"expected {name} to be a dense tensor, but got one of layout {layout}: .* by {name}.to_dense"
    layer.eval()
    if packed:
        nhwc_conv.prepack(layer)
    with pytest.raises(RuntimeError, match=text), torch.set_grad_enabled(not packed):
        layer(make(X.movedim(-1, -3).contiguous() if name == "input" else X))


def nested(t):
    return torch.nested.nested_tensor(list(t))


def jagged(t):
    return torch.nested.nested_tensor([part.flatten(0, -2) for part in t], layout=torch.jagged)


@pytest.mark.parametrize("make", [nested, jagged])
@pytest.mark.parametrize("function", [nhwc_conv.conv2d, nhwc_conv.conv_transpose2d])
@pytest.mark.filterwarnings("ignore:.*nested tensors.*prototype")
def test_nested_tensors(make, function):
    text = "expected {} to be a dense tensor, but got a nested one: convolve its components, or pad them"
    for x, w in ((make(X), W), (X, make(W)), (make(X), make(W))):
        for weight in (w, w if w.is_nested else w.clone().requires_grad_()):
            with pytest.raises(RuntimeError, match=text.format("x" if x.is_nested else "w")):
                function(x, weight)
    for layer in LAYERS:
        with pytest.raises(RuntimeError, match=text.format("(x|input)")):
            layer(make(X))
