"""The drop-in layer's results and gradients lie in memory as nn.Conv2d's, and may be changed in place."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import nhwc_conv

FORMATS = [torch.contiguous_format, torch.channels_last]


def pair(of_input, of_weight, dtype, **arguments):
    theirs = nn.Conv2d(3, 4, 3, dtype=dtype, **arguments).to(memory_format=of_weight)
    ours = nhwc_conv.convert(nn.Sequential(copy.deepcopy(theirs)))[0]
    x = torch.randn(2, 3, 8, 9, dtype=dtype).to(memory_format=of_input).requires_grad_()
    return theirs, ours, x


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("of_input", FORMATS)
@pytest.mark.parametrize("of_weight", FORMATS)
@pytest.mark.parametrize("stride", [1, 2])
def test_strides_of_results_and_gradients(of_input, of_weight, dtype, stride):
    *layers, x = pair(of_input, of_weight, dtype, stride=stride, padding=1)
    strides = []
    for layer in layers:
        out = layer(x)
        gradients = torch.autograd.grad(out.sum(), (x, layer.weight))
        strides.append([t.stride() for t in (out, *gradients)])
        if of_weight != of_input:  # ours is in the weight's format, which .grad will have; theirs may not be
            assert strides.pop()[2] == layer.weight.stride() or layer is layers[0]
            strides.append([t.stride() for t in (out, gradients[0])])
        assert not out._is_view()
    assert strides[0] == strides[1]


def test_gradients_of_contiguous_tensors_can_be_viewed():
    """A gradient penalty, and what parameters_to_vector does."""
    _, layer, x = pair(*FORMATS[:1] * 2, torch.float64)
    (grad,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    (grad.view(2, -1).norm(dim=1) - 1).square().sum().backward()
    nn.utils.parameters_to_vector(torch.autograd.grad(layer(x).sum(), layer.parameters()))
    assert torch.autograd.gradcheck(layer, x) and torch.autograd.gradgradcheck(layer, x)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_results_may_be_changed_in_place(memory_format):
    _, layer, x = pair(memory_format, memory_format, torch.float32)
    expected = layer(x).detach().relu()
    torch.testing.assert_close(torch.relu_(checkpoint(layer, x, use_reentrant=True)), expected)
    assert layer(x).detach_().is_leaf
    scale = nn.Parameter(torch.tensor(2.0))
    with torch.no_grad():
        out, packed_out = layer(x), nhwc_conv.prepack(copy.deepcopy(layer).eval())(x)
    for result in (out, packed_out):
        result *= scale
        result.sum().backward()
    torch.testing.assert_close(torch.relu_(out.detach()), 2 * expected)


def test_messages_show_the_shapes_of_the_caller():
    layer = nhwc_conv.Conv2d(3, 4, 3)
    with pytest.raises(RuntimeError) as ours:
        layer(torch.randn(2, 5, 8, 7))
    with pytest.raises(RuntimeError) as theirs:
        nn.Conv2d(3, 4, 3)(torch.randn(2, 5, 8, 7))
    assert str(ours.value) == str(theirs.value)
