"""conv_transpose2d and its layer against F.conv_transpose2d and torch.nn.ConvTranspose2d."""

import copy
import itertools
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, hessian, jvp, vmap

import nhwc_conv
from nhwc_conv import NHWCConvTranspose2d, conv_transpose2d

# PyTorch's own forward-mode formulas still go through torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


def nhwc(t):
    return t.movedim(-3, -1)


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize("padding", [0, (1, 2)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 3)])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 2)])
def test_every_size(stride, padding, dilation, kernel):
    """All output paddings that torch takes, also those of a wide dilation; groups and bias alternate."""
    x = torch.randn(2, 4, 4, 5, dtype=torch.float64)
    below = [range(max(steps)) for steps in zip(stride, dilation, strict=True)]
    for count, output_padding in enumerate(itertools.product(*below)):
        groups = 1 + count % 2
        w = torch.randn(4, 6 // groups, *kernel, dtype=torch.float64)
        bias = torch.randn(6, dtype=torch.float64) if count % 3 else None
        theirs = F.conv_transpose2d(x, w, bias, stride, padding, output_padding, groups, dilation)
        tensors = nhwc(x), w.permute(2, 3, 1, 0), bias
        out = conv_transpose2d(*tensors, stride, padding, output_padding, groups, dilation)
        torch.testing.assert_close(out, nhwc(theirs))
        assert out.is_contiguous()
        if output_padding[0] < stride[0] and output_padding[1] < stride[1]:
            size = theirs.shape[2:]
            sized = conv_transpose2d(*tensors, stride, padding, 0, groups, dilation, output_size=size)
            assert torch.equal(sized, out)


@pytest.mark.parametrize("padding", ["same", "same_lower", (1, 0, 2, 1), "valid"])
def test_it_is_the_input_gradient_of_conv2d(padding):
    w = torch.randn(3, 4, 2, 6, dtype=torch.float64)
    for size in ((7, 9), (8, 10)):
        image = torch.randn(2, *size, 4, dtype=torch.float64, requires_grad=True)
        y = nhwc_conv.conv2d(image, w, None, 2, padding, groups=2)
        g = torch.randn_like(y)
        (expected,) = torch.autograd.grad(y, image, g)
        out = conv_transpose2d(g, w, None, 2, padding, 0, 2, output_size=size)
        assert torch.equal(out, expected)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_is_what_tensorflow_computes(kernel, stride):
    """Conv2DTranspose of padding "same", in its own words: the full result, cut to stride times the input."""
    x, w = (
        torch.randn(1, 3, 4, 2, dtype=torch.float64),
        torch.randn(kernel, kernel, 5, 2, dtype=torch.float64),
    )
    out = conv_transpose2d(x, w, None, stride, "same")
    assert out.shape == (1, 3 * stride, 4 * stride, 5)
    # "same" leaves out kernel - stride of the full rows, the odd one at the bottom; a short kernel leaves zeros.
    full = F.conv_transpose2d(x.permute(0, 3, 1, 2), w.permute(3, 2, 0, 1), None, stride).permute(0, 2, 3, 1)
    full = F.pad(full, (0, 0, 0, stride, 0, stride))
    before = max(kernel - stride, 0) // 2
    torch.testing.assert_close(out, full[:, before:, before:][:, : 3 * stride, : 4 * stride])


ARGUMENTS = [
    dict(),
    dict(stride=2, padding=1, output_padding=1),
    dict(stride=(2, 3), padding=(0, 1), groups=2, bias=False),
    dict(dilation=(1, 2), output_padding=(0, 1), groups=4),
]


def pair(arguments, dtype=torch.float64):
    layers = []
    for cls in (NHWCConvTranspose2d, nn.ConvTranspose2d):
        torch.manual_seed(3)
        layers.append(cls(4, 8, (3, 2), **arguments, dtype=dtype))
        layers[-1].after = torch.rand(1)
    return layers


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_layer_equals_torch(arguments):
    ours, theirs = pair(arguments)
    assert torch.equal(ours.weight, theirs.weight.permute(2, 3, 1, 0)) and ours.weight.is_contiguous()
    assert (ours.bias is None) == (theirs.bias is None) and torch.equal(ours.after, theirs.after)
    assert ours.bias is None or torch.equal(ours.bias, theirs.bias)
    for x in (torch.randn(2, 4, 5, 6, dtype=torch.float64), torch.randn(4, 5, 6, dtype=torch.float64)):
        x.requires_grad_()
        outs = ours(nhwc(x)), theirs(x)
        torch.testing.assert_close(outs[0], nhwc(outs[1]))
        grads = [
            torch.autograd.grad(out.pow(2).sum(), (x, *layer.parameters()))
            for out, layer in zip(outs, (ours, theirs), strict=True)
        ]
        grads[0] = (grads[0][0], grads[0][1].permute(3, 2, 0, 1), *grads[0][2:])
        torch.testing.assert_close(*grads)
        with torch.inference_mode():
            assert torch.equal(ours(nhwc(x)), outs[0])


def test_output_size_of_the_layer():
    ours, theirs = pair(dict(stride=3, padding=1))
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    least = theirs(x).shape[2:]
    for more in ((0, 0), (1, 2), (2, 0)):
        size = [n + m for n, m in zip(least, more, strict=True)]
        expected = nhwc(theirs(x, output_size=size))
        for wanted in (size, (2, *size, 8)):
            torch.testing.assert_close(ours(nhwc(x), output_size=wanted), expected)
        torch.testing.assert_close(ours(nhwc(x[0]), (*size, 8)), expected[0])
    for size, text in (
        ((least[0] + 3, least[1]), "valid sizes range from"),
        ((least[0], least[1] - 1), "valid sizes range from"),
        ((least[0],), "output_size"),
    ):
        with pytest.raises(RuntimeError, match=text) as error:
            ours(nhwc(x), output_size=size)
        assert str(list(size)) in str(error.value)


def test_layer_is_a_layer():
    layer = NHWCConvTranspose2d(4, 8, 3, stride=2, padding="SAME", groups=2, bias=False)
    x = torch.randn(1, 4, 5, 4)
    assert layer(x).shape == (1, 8, 10, 8)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), layer(x)) and repr(other) == repr(layer)
    assert all(part in repr(layer) for part in ("4, 8", "padding=same", "groups=2", "bias=False"))
    strides = layer.weight.stride()
    layer.to(memory_format=torch.channels_last).to(torch.float64)
    assert layer.weight.stride() == strides and layer(x.double()).dtype == torch.float64
    assert layer.to("meta")(x.double().to("meta")).shape == (1, 8, 10, 8)


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (dict(groups=0), "groups must be a positive integer, but got groups=0"),
        (dict(groups=3), "in_channels must be divisible by groups, but got in_channels=4"),
        (dict(padding="full"), "Invalid padding string: padding='full'"),
        (dict(padding_mode="reflect"), "padding_mode='reflect'"),
        (dict(padding="same", stride=2, output_padding=1), "output_padding=1"),
        (dict(output_padding=(1, 2, 3)), r"output_padding=\(1, 2, 3\)"),
    ],
    ids=str,
)
def test_bad_arguments_of_the_layer(bad, text):
    with pytest.raises(ValueError, match=text):
        NHWCConvTranspose2d(4, 8, 3, **bad)


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype)


# What is wrong, in terms of the good call below, and what the message must hold.
BAD = [
    (dict(x=zeros(5, 4)), ["conv_transpose2d", "x of size: [5, 4]"]),
    (dict(x=zeros(1, 5, 6, 7)), ["[1, 5, 6, 7]", "[3, 3, 2, 4]", "expected input x", "4 channels"]),
    (dict(x=zeros(1, 0, 6, 4)), ["[1, 0, 6, 4]"]),
    (dict(w=zeros(3, 2, 4)), ["w of size: [3, 2, 4]"]),
    (dict(groups=3), ["groups=3", "[3, 3, 2, 4]"]),
    (dict(groups=-1), ["groups=-1"]),
    (dict(bias=zeros(3)), ["bias", "2 elements", "[3]"]),
    (dict(stride=0), ["stride", "(0, 0)"]),
    (dict(dilation=(1, -1)), ["dilation", "-1"]),
    (dict(padding=-1), ["padding", "-1"]),
    (dict(padding=(1, 2, 3)), ["padding", "[1, 2, 3]"]),
    (dict(padding=20), ["output size", "Output size is too small"]),
    (dict(output_padding=2), ["output_padding=[2, 2]", "stride=[2, 2]", "dilation=[1, 1]"]),
    (dict(output_padding=-1), ["output_padding=[-1, -1]"]),
    (dict(output_padding=(1, 1, 1)), ["output_padding=[1, 1, 1]"]),
    (dict(output_padding=1, padding="same"), ["output_padding", "[1, 1]"]),
    (dict(output_padding=1, output_size=(12, 14)), ["output_padding", "output_size=[12, 14]"]),
    (dict(output_size=(99, 14)), ["output size of [99, 14]"]),
    (dict(output_size=(12, 14, 2)), ["output_size=[12, 14, 2]"]),
    (dict(w=zeros(3, 3, 2, 4, dtype=torch.float64)), ["x: float", "w: double"]),
    (dict(bias=zeros(2, dtype=torch.float64)), ["x: float", "bias: double"]),
    (dict(w=zeros(3, 3, 2, 4).to("meta")), ["device", "w on meta"]),
]


@pytest.mark.parametrize(("bad", "parts"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_arguments(bad, parts):
    good = dict(x=zeros(1, 5, 6, 4), w=zeros(3, 3, 2, 4), bias=zeros(2), stride=2)
    assert conv_transpose2d(**good).shape == (1, 11, 13, 2)
    with pytest.raises(RuntimeError) as error:
        conv_transpose2d(**{**good, **bad})
    message = str(error.value)
    assert all(part.replace("(0, 0)", "[0, 0]").lower() in message.lower() for part in parts), message


def test_transforms():
    torch.manual_seed(0)
    tensors = tuple(torch.randn(s, dtype=torch.float64) for s in ((2, 3, 2, 4), (2, 3, 1, 4), (2,)))
    kwargs = dict(stride=2, padding=(1, 0, 2, 0), output_padding=(0, 1), groups=2)

    def function(x, w, b):
        return conv_transpose2d(x, w, b, **kwargs)

    def reference(x, w, b):
        full = F.conv_transpose2d(x.movedim(-1, -3), w.permute(3, 2, 0, 1), b, 2, 0, (0, 1), 2)
        return full[..., 1:, 2:].movedim(-3, -1)

    leaves = tuple(t.clone().requires_grad_() for t in tensors)
    assert gradcheck(function, leaves, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(function, leaves, fast_mode=True, check_fwd_over_rev=True)
    for transform in (
        lambda f: jvp(f, tensors, tensors[::1])[1],
        lambda f: hessian(lambda *ts: f(*ts).pow(3).sum(), 1)(*tensors),
        lambda f: vmap(f, (0, None, None))(*tensors),
        lambda f: vmap(f, (None, 0, None))(tensors[0], torch.stack([tensors[1]] * 3).cumsum(0), tensors[2]),
        lambda f: vmap(f, (None, None, 0))(*tensors[:2], torch.stack([tensors[2]] * 3).cumsum(0)),
        lambda f: vmap(grad(lambda *ts: f(*ts).pow(2).sum(), (0, 1, 2)), (0, None, None))(*tensors),
    ):
        expected = transform(reference)
        torch.testing.assert_close(transform(function), expected)
        assert all(t.abs().max() > 0 for t in torch.utils._pytree.tree_leaves(expected))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    x, w, b = torch.randn(2, 3, 4, 4), torch.randn(3, 3, 2, 4), torch.randn(2)
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    with torch.autocast("cpu", dtype):
        out = conv_transpose2d(*leaves, stride=2)
        assert conv_transpose2d(x.double(), w.double()).dtype == torch.float64
    assert out.dtype == dtype and torch.equal(out, conv_transpose2d(*(t.to(dtype) for t in leaves), stride=2))
    out.sum().backward()
    assert all(t.grad.dtype == torch.float32 and t.grad.abs().max() > 0 for t in leaves)


def test_subclasses_and_function_modes_see_the_function():
    traced = torch.fx.symbolic_trace(nn.Sequential(NHWCConvTranspose2d(4, 2, 3, stride=2)))
    assert conv_transpose2d in [n.target for n in traced.graph.nodes]
    x = torch.randn(1, 3, 4, 4)
    assert traced(x).shape == (1, 7, 9, 2)


@pytest.mark.needs_extension
@pytest.mark.parametrize("kernel, padding, groups", [(3, 1, 1), (3, 1, 5), (4, 0, 1), (4, 2, 1)])
def test_weights_whose_taps_lie_in_a_row(kernel, padding, groups, isa, threads):
    """As torch keeps them: phases read a copy, which threads make in parts."""
    torch.manual_seed(0)
    x, w = torch.randn(1, 3, 5, 20), torch.randn(kernel, kernel, 35 // groups, 20)
    expected = nhwc_conv.conv_transpose2d(x, w, stride=2, padding=padding, groups=groups)
    in_a_row = w.permute(3, 2, 0, 1).contiguous().permute(2, 3, 1, 0)
    for count in (1, 2, 3):
        threads(count)
        found = nhwc_conv.conv_transpose2d(x, in_a_row, stride=2, padding=padding, groups=groups)
        assert torch.equal(found, expected)
