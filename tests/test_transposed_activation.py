"""The activation of conv_transpose2d, conv_transpose1d and the channels-last transposed layers."""

import pytest
import torch
from test_finish import ARGUMENTS
from torch import nn

import nhwc_conv
from nhwc_conv._ops.finish import NAMES, finish_argument

FUNCTIONS = {
    "conv_transpose1d": ((2, 9, 8), (5, 6, 8), dict(stride=2, padding=1)),
    "conv_transpose2d": ((2, 5, 7, 8), (3, 4, 6, 8), dict(stride=(2, 3), padding="same")),
    "groups": ((2, 5, 7, 8), (3, 3, 3, 8), dict(stride=1, padding=(1, 0), groups=2)),
}
LAYERS = {
    "NWCConvTranspose1d": ((2, 9, 8), dict(kernel_size=5, stride=2, padding="same")),
    "NHWCConvTranspose2d": (
        (2, 5, 7, 8),
        dict(kernel_size=(3, 4), stride=2, padding=(0, 1, 1, 0), output_padding=1),
    ),
}


def function_of(name):
    x, w, steps = FUNCTIONS[name]
    torch.manual_seed(0)
    function = getattr(nhwc_conv, "conv_transpose2d" if name == "groups" else name)
    return function, (torch.randn(x), torch.randn(w), torch.randn(6)), steps


@pytest.mark.parametrize("activation", NAMES[1:])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, activation, isa):
    function, tensors, steps = function_of(name)
    given = ARGUMENTS[activation]
    expected = finish_argument(given, False).of(function(*tensors, **steps), None)
    torch.testing.assert_close(function(*tensors, **steps, activation=given), expected)
    recorded = [t.clone().requires_grad_() for t in tensors]
    out = function(*recorded, **steps, activation=given)
    torch.testing.assert_close(out, expected)
    plain = [t.clone().requires_grad_() for t in tensors]
    grad = torch.randn_like(out)
    theirs = finish_argument(given, False).of(function(*plain, **steps), None)
    for a, b in zip(
        torch.autograd.grad(out, recorded, grad), torch.autograd.grad(theirs, plain, grad), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_size_that_is_asked_for(name):
    function, tensors, steps = function_of(name)
    size = list(function(*tensors, **steps).shape[1:-1])
    with torch.no_grad():
        out = function(*tensors, **steps, output_size=size, activation="relu")
    assert torch.equal(out, function(*tensors, **steps, activation="relu")) and out.min() == 0


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, packed, isa):
    shape, steps = LAYERS[name]
    torch.manual_seed(0)
    layer = getattr(nhwc_conv.nn, name)(8, 6, **steps, activation=("clamp", -0.1, 0.2)).eval()
    x = torch.randn(shape)
    function = nhwc_conv.conv_transpose1d if name.startswith("NWC") else nhwc_conv.conv_transpose2d
    with torch.no_grad():
        rest = layer.stride, layer.padding, layer.output_padding
        expected = function(x, layer.weight, layer.bias, *rest).clamp(-0.1, 0.2)
        nhwc_conv.prepack(layer) if packed else None
        assert torch.equal(layer(x), expected)
    assert "activation=('clamp', -0.1, 0.2)" in repr(layer)
    with pytest.raises(ValueError, match="has no activation, but activation="):
        layer.to_torch()


def test_of_a_kernel():
    kernel = torch.randn(3, 3, 6, 8)
    layer = nhwc_conv.NHWCConvTranspose2d.from_kernel(kernel, stride=2, padding="same", activation="relu")
    x = torch.randn(1, 4, 5, 8)
    expected = nhwc_conv.conv_transpose2d(x, kernel, stride=2, padding="same").relu()
    assert torch.equal(layer(x), expected) and layer.activation == "relu"
    of_torch = nhwc_conv.NHWCConvTranspose2d.from_torch(nn.ConvTranspose2d(8, 6, 3))
    assert of_torch.activation is None and of_torch.to_torch()


def test_names_are_checked():
    function, tensors, steps = function_of("conv_transpose2d")
    with pytest.raises(ValueError, match="Unknown activation: activation='reul'"):
        function(*tensors, **steps, activation="reul")
    with pytest.raises(ValueError, match="Unknown activation"):
        nhwc_conv.NHWCConvTranspose2d(8, 6, 3, activation="reul")
