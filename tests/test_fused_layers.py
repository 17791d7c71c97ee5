"""Layers that do what follows a convolution, or a linear layer, too."""

import itertools

import pytest
import torch
import torch.nn.functional as F

import nhwc_conv
from nhwc_conv.nn import FusedConv1d, FusedConv2d


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers(dtype, isa):
    torch.manual_seed(0)
    x, residual = torch.randn(1, 12, 12, 64).to(dtype), torch.randn(1, 12, 12, 64).to(dtype)
    layer = nhwc_conv.NHWCConv2d(64, 64, 3, padding=1, activation="hardswish", dtype=dtype).eval()
    drop_in = FusedConv2d(64, 64, 3, padding=1, activation="hardswish", dtype=dtype).eval()
    drop_in.weight.data, drop_in.bias.data = layer.weight.data.permute(3, 2, 0, 1), layer.bias.data
    assert "activation=hardswish" in repr(layer) and "activation='hardswish'" in repr(drop_in)
    with torch.no_grad():
        plain = nhwc_conv.conv2d(x, layer.weight, layer.bias, padding=1, activation="hardswish")
        both = nhwc_conv.conv2d(
            x, layer.weight, layer.bias, padding=1, activation="hardswish", residual=residual
        )
        nchw = [t.movedim(-1, 1) for t in (x, residual)]
        results = layer(x), drop_in(nchw[0]).movedim(1, -1), layer(x, residual), drop_in(*nchw).movedim(1, -1)
        assert all(map(torch.equal, results, (plain, plain, both, both)))
        nhwc_conv.prepack(layer), nhwc_conv.prepack(drop_in)
        results = layer(x), drop_in(nchw[0]).movedim(1, -1), layer(x, residual), drop_in(*nchw).movedim(1, -1)
        close = dict(rtol=0.02, atol=0.02) if dtype is torch.bfloat16 else dict(rtol=1e-4, atol=1e-5)
        for found, expected in zip(results, (plain, plain, both, both), strict=True):
            torch.testing.assert_close(found, expected, **close)
        torch.testing.assert_close(drop_in.to_torch()(*nchw), drop_in(*nchw), **close)


def test_a_broadcast_residual_of_the_drop_in():
    """What a model may add to a convolution's result, a converted model may."""
    layer, x = FusedConv2d(3, 4, 3, activation="relu").eval(), torch.randn(2, 3, 8, 9)
    conv = torch.nn.functional.conv2d(x, layer.weight, layer.bias)
    for packed, r in itertools.product((False, True), ((2, 4, 1, 1), (6, 7), (5, 2, 4, 6, 7), (2, 4, 6, 7))):
        nhwc_conv.prepack(layer) if packed else None
        for dtype in (torch.float32, torch.float64):
            residual = torch.randn(r, dtype=dtype)
            with torch.no_grad():
                expected, found = (conv + residual).relu(), layer(x, residual)
            assert found.dtype == dtype
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


SEQUENCES = {
    "like the result": (2, 4, 12),
    "broadcast": (2, 4, 1),
    "of channels": (4, 1),
    "of pixels": (12,),
    "of more": (3, 2, 4, 12),
    "a number": (),
}


@pytest.mark.parametrize("name", SEQUENCES)
@pytest.mark.parametrize("packed", [False, True])
def test_sequences(name, packed):
    """Results, whoever looks, and gradients, of what else than a sequence may be added, too."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    x, residual = (
        torch.randn(2, 3, 14, dtype=torch.float64),
        torch.randn(SEQUENCES[name], dtype=torch.float64),
    )
    for first in (False, True):
        layer = FusedConv1d(3, 4, 3, activation="silu", activation_first=first, dtype=torch.float64).eval()
        assert "activation='silu'" in repr(layer) and ("activation_first=True" in repr(layer)) == first
        nhwc_conv.prepack(layer) if packed else None
        theirs = layer.to_torch()
        calls = [layer, torch.compile(layer, fullgraph=True, backend="aot_eager")]
        with torch.no_grad():
            for call in calls:
                torch.testing.assert_close(call(x), F.silu(F.conv1d(x, layer.weight, layer.bias)))
                torch.testing.assert_close(call(x, residual), theirs(x, residual))
        leaf = residual.clone().requires_grad_()
        for leaves in ([leaf], [leaf, *layer.parameters()]):
            grads = [torch.autograd.grad(f(x, leaf).sin().sum(), leaves) for f in (layer, theirs)]
            torch.testing.assert_close(*grads)
        layer.weight.requires_grad_(False), layer.bias.requires_grad_(False)
        grads = [torch.autograd.grad(f(x, leaf).sin().sum(), leaf) for f in (layer, theirs)]
        torch.testing.assert_close(*grads)


def test_what_cannot_be_added_to_a_sequence():
    layer, x = FusedConv1d(3, 4, 3).eval(), torch.randn(2, 3, 14)
    raised = []
    for call in (layer, layer.to_torch(), nhwc_conv.prepack(layer)):
        with torch.no_grad(), pytest.raises(RuntimeError) as error:
            call(x, torch.randn(2, 4, 7))
        raised.append(str(error.value))
    assert raised[0] == raised[1] == raised[2]


@pytest.mark.parametrize("packed", [False, True])
def test_compiled_with_a_residual(packed):
    layer, x, residual = (
        FusedConv2d(3, 4, 3, activation="relu"),
        torch.randn(2, 3, 8, 9),
        torch.randn(2, 4, 6, 7),
    )
    nhwc_conv.prepack(layer.eval()) if packed else None
    call = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(call(x, residual), layer(x, residual))


@pytest.mark.parametrize("packed", [False, True])
def test_compiled(packed):
    layer = nhwc_conv.NHWCConv2d(3, 4, 3, padding=1, activation=("leaky_relu", 0.2)).eval()
    x, residual = torch.randn(2, 6, 5, 3), torch.randn(2, 6, 5, 4)
    call = torch.compile(layer, fullgraph=True, backend="aot_eager")
    nhwc_conv.prepack(layer) if packed else None
    with torch.no_grad():
        assert torch.equal(call(x, residual), layer(x, residual))
    expected, found = (torch.autograd.grad(f(x, residual).sum(), layer.weight)[0] for f in (layer, call))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("size", [(5,), (1, 5), (3, 4, 5), (0, 5), (2, 3, 4, 5)])
def test_linear(size, dtype):
    linear = torch.nn.Linear(5, 7, dtype=dtype).eval()
    x, residual = torch.randn(size, dtype=dtype), torch.randn(*size[:-1], 7, dtype=dtype)
    layer = nhwc_conv.nn.FusedLinear.from_torch(linear)
    assert layer.weight is linear.weight and type(linear) is torch.nn.Linear
    layer.set_finish("silu", False)
    nhwc_conv.prepack(layer)
    close = dict(rtol=0.02, atol=0.02) if dtype is torch.bfloat16 else dict(rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        for given in (x, x.transpose(0, -2).contiguous().transpose(0, -2) if len(size) > 1 else x):
            torch.testing.assert_close(layer(given), F.silu(linear(given)), **close)
            torch.testing.assert_close(layer(given, residual), F.silu(linear(given) + residual), **close)
            torch.testing.assert_close(
                layer(given, residual[..., :1]), F.silu(linear(given) + residual[..., :1]), **close
            )
        linear.weight.mul_(2)  # packed anew
        torch.testing.assert_close(layer(x), F.silu(linear(x)), **close)
        torch.testing.assert_close(layer.to_torch()(x, residual), layer(x, residual), **close)
        with pytest.raises(RuntimeError, match="shape"):
            layer(torch.randn(*size[:-1], 4, dtype=dtype))
    found, expected = (
        torch.autograd.grad(f(x).sum(), linear.weight)[0] for f in (layer, lambda x: F.silu(linear(x)))
    )
    torch.testing.assert_close(found, expected, **close)


@pytest.mark.needs_extension
def test_linear_is_a_convolution_of_ours():
    layer = nhwc_conv.nn.FusedLinear(32, 48, activation="gelu").eval()
    x = torch.randn(4, 9, 32)
    with torch.no_grad():
        plain = layer(x)
        nhwc_conv.prepack(layer)
        w = layer.weight.t()[None, None]
        expected = nhwc_conv.conv2d(x.view(1, 1, 36, 32), w, layer.bias, activation="gelu").view(4, 9, 48)
        assert torch.equal(layer(x), expected)
        torch.testing.assert_close(plain, expected)
