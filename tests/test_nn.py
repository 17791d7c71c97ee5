"""Both layers against torch.nn.Conv2d: values, initialisation, memory formats, copies, tracing."""

import copy
import io
import itertools
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nhwc_conv
from nhwc_conv import Conv2d, NHWCConv2d

ARGUMENTS = [
    dict(),
    dict(stride=2, padding=1),
    dict(padding=(2, 1), dilation=(1, 2), bias=False),
    dict(groups=2, padding="same"),
    dict(groups=4, stride=(2, 1), padding="valid"),
] + [dict(padding=2, padding_mode=mode) for mode in ("reflect", "replicate", "circular")]
ARGUMENTS.append(dict(padding="same", padding_mode="reflect"))
arguments = pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)


def pair(ours, arguments, dtype=torch.float64, kernel_size=3):
    """A layer of ours and torch.nn.Conv2d, from the same seed."""
    layers = []
    for cls in (ours, nn.Conv2d):
        torch.manual_seed(3)
        layers.append(cls(4, 8, kernel_size, **arguments, dtype=dtype))
    return layers


def nhwc(t):
    return t.movedim(-3, -1)


@arguments
@pytest.mark.parametrize("algorithm", ["auto", "im2col", "matmul"])
def test_drop_in_equals_torch(arguments, algorithm):
    ours, theirs = pair(Conv2d, arguments)
    ours.algorithm = algorithm
    for x in (torch.randn(2, 4, 7, 6, dtype=torch.float64), torch.randn(4, 7, 6, dtype=torch.float64)):
        x.requires_grad_()
        outs = ours(x), theirs(x)
        torch.testing.assert_close(*outs)
        assert outs[0].stride() == outs[1].stride()
        grads = [
            torch.autograd.grad(out.pow(2).sum(), (x, *layer.parameters()))
            for out, layer in zip(outs, (ours, theirs), strict=True)
        ]
        torch.testing.assert_close(*grads)
        assert repr(ours).startswith(repr(theirs)[:-1])


@arguments
def test_nhwc_layer_equals_torch(arguments):
    ours, theirs = pair(NHWCConv2d, arguments)
    assert torch.equal(ours.weight, theirs.weight.permute(2, 3, 1, 0)) and ours.weight.is_contiguous()
    assert (ours.bias is None) == (theirs.bias is None)
    assert ours.bias is None or torch.equal(ours.bias, theirs.bias)
    for x in (torch.randn(2, 4, 7, 6, dtype=torch.float64), torch.randn(4, 7, 6, dtype=torch.float64)):
        out = ours(nhwc(x))
        assert out.is_contiguous()
        torch.testing.assert_close(out, nhwc(theirs(x)))


def test_nhwc_layer_pads_four_sides_and_at_strides():
    x = torch.randn(1, 7, 8, 4)
    layer = NHWCConv2d(4, 8, (2, 3), stride=2, padding=(1, 0, 2, 3))
    expected = nhwc(
        F.conv2d(F.pad(x.movedim(-1, -3), (2, 3, 1, 0)), layer.weight.permute(3, 2, 0, 1), layer.bias, 2)
    )
    torch.testing.assert_close(layer(x), expected)
    for padding, sides in (("SAME", (0, 1, 0, 1)), ("same_lower", (0, 1, 1, 0))):
        layer = NHWCConv2d(4, 8, (2, 3), stride=2, padding=padding)
        top, bottom = sides[:2] if padding == "SAME" else sides[1::-1]
        explicit = nhwc_conv.conv2d(x, layer.weight, layer.bias, 2, (top, bottom, *sides[2:]))
        assert torch.equal(layer(x), explicit)
        layer.padding_mode = "replicate"
        image = F.pad(x.movedim(-1, -3), (*sides[2:], top, bottom), mode="replicate").movedim(-3, -1)
        assert torch.equal(layer(x), nhwc_conv.conv2d(image, layer.weight, layer.bias, 2))


def layouts(t):
    """The same values in every memory format that conv layers meet."""
    yield t.contiguous()
    dense = t.movedim(-3, -1).contiguous().movedim(-1, -3)  # strides of dimensions of length 1 differ
    yield dense
    if t.dim() == 4:
        yield t.contiguous(memory_format=torch.channels_last)
        yield torch.cat([t, t], 1)[:, : t.shape[1]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_memory_format_is_that_of_torch(dtype):
    """Exact strides, also where dimensions of length 1 make the format ambiguous."""
    for batch, C, O, (H, W), K in itertools.product(  # noqa: E741
        ((), (1,), (2,)), (1, 3), (1, 4), ((1, 1), (1, 5), (4, 1), (3, 5)), (1, 3)
    ):
        weight = torch.randn(O, C, K, K).to(dtype)
        x = torch.randn(*batch, C, H, W).to(dtype)
        layer, theirs = (cls(C, O, K, padding=K // 2, bias=False, dtype=dtype) for cls in (Conv2d, nn.Conv2d))
        for w, image in itertools.product(list(layouts(weight))[:3], layouts(x)):
            layer.weight = theirs.weight = nn.Parameter(w)
            out, expected = layer(image), theirs(image)
            assert out.stride() == expected.stride(), (image.shape, image.stride(), w.shape, w.stride())
            assert out.shape == expected.shape


@pytest.mark.parametrize("cls", [Conv2d, NHWCConv2d])
def test_copies(cls):
    layer = cls(4, 8, 3, padding=1, stride=2, algorithm="matmul")
    x = torch.randn(1, 8, 8, 4) if cls is NHWCConv2d else torch.randn(1, 4, 8, 8)
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded):
        assert torch.equal(other(x), layer(x)) and repr(other) == repr(layer) and "matmul" in repr(layer)
        assert other.weight is not layer.weight
    assert layer.double()(x.double()).dtype == torch.float64
    assert layer.to("meta")(x.double().to("meta")).device.type == "meta"


def test_state_dicts_go_both_ways():
    ours, theirs = Conv2d(4, 8, 3), nn.Conv2d(4, 8, 3)
    x = torch.randn(2, 4, 6, 6)
    assert [k for k in ours.state_dict()] == ["weight", "bias"]
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x), theirs(x))
    with torch.no_grad():
        ours.weight.mul_(2)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), theirs(x))


def test_same_seed_same_values():
    ours, theirs = pair(Conv2d, {}, dtype=torch.float32, kernel_size=(3, 5))
    assert torch.equal(ours.weight, theirs.weight) and torch.equal(ours.bias, theirs.bias)
    assert ours.weight.stride() == theirs.weight.stride()
    nhwc_layer, _ = pair(NHWCConv2d, {}, dtype=torch.float32, kernel_size=(3, 5))
    assert torch.equal(nhwc_layer.weight.permute(3, 2, 0, 1), theirs.weight)
    after = []
    for cls in (NHWCConv2d, nn.Conv2d):
        torch.manual_seed(0)
        cls(4, 8, 3)
        after.append(torch.rand(1))
    assert torch.equal(*after)


def test_to_memory_format_leaves_hwio_alone():
    model = nn.Sequential(NHWCConv2d(4, 8, 3), Conv2d(4, 8, 3))
    before = model[0].weight.detach().clone()
    model.to(memory_format=torch.channels_last)
    assert model[0].weight.stride() == before.stride() and torch.equal(model[0].weight, before)
    assert model[1].weight.is_contiguous(memory_format=torch.channels_last)
    x = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(model[1](x), F.conv2d(x, model[1].weight, model[1].bias))
    model.to(torch.float64)
    assert model[0].weight.dtype == torch.float64 and model[0].weight.is_contiguous()


@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
def test_fx_keeps_one_call(padding_mode):
    model = nn.Sequential(Conv2d(4, 8, 3, padding=1, padding_mode=padding_mode), nn.ReLU())
    traced = torch.fx.symbolic_trace(model)
    calls = [n.target.__name__ for n in traced.graph.nodes if n.op == "call_function"]
    assert [c for c in calls if "conv2d" in c] == ["conv2d_nchw"]
    x = torch.randn(2, 4, 6, 5)
    assert torch.equal(traced(x), model(x))
    assert torch.equal(pickle.loads(pickle.dumps(traced))(x), model(x))


def test_fx_of_the_nhwc_layer():
    model = nn.Sequential(NHWCConv2d(4, 8, 3, padding="same"), nn.ReLU())
    traced = torch.fx.symbolic_trace(model)
    assert nhwc_conv.conv2d in [n.target for n in traced.graph.nodes]
    x = torch.randn(2, 6, 5, 4)
    assert torch.equal(traced(x), model(x))


@pytest.mark.parametrize("cls", [Conv2d, NHWCConv2d])
def test_bad_arguments(cls):
    for bad, text in (
        (dict(groups=0), "groups must be a positive integer"),
        (dict(groups=3), "in_channels must be divisible by groups"),
        (dict(padding="full"), "Invalid padding string"),
        (dict(padding_mode="wrap"), "padding_mode must be one of"),
        (dict(algorithm="fft"), "algorithm='fft'; valid ones are auto, im2col, matmul"),
    ):
        with pytest.raises(ValueError, match=text):
            cls(4, 8, 3, **bad)
    with pytest.raises(ValueError, match="out_channels must be divisible by groups"):
        cls(4, 6, 3, groups=4)


def test_layers_without_parameters_of_their_own():
    """torch.func.functional_call and a bias of None."""
    layer = NHWCConv2d(4, 8, 3, bias=False)
    weight = torch.randn_like(layer.weight)
    x = torch.randn(1, 5, 5, 4)
    out = torch.func.functional_call(layer, {"weight": weight}, (x,))
    assert torch.equal(out, nhwc_conv.conv2d(x, weight)) and "bias=False" in repr(layer)
