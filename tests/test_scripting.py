"""torch.jit.script refuses layers and functions in one sentence; the ops themselves can be scripted."""

import pytest
import torch
from torch import nn

import nhwc_conv

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:The TorchScript type system:UserWarning"),  # of torch.fx's modules
]


def converted(inference):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    return nhwc_conv.convert(
        model, inference=inference, example=torch.randn(1, 3, 6, 6) if inference else None
    )


LAYERS = {
    "Conv2d": lambda: nhwc_conv.Conv2d(3, 4, 3),
    "NHWCConv2d": lambda: nhwc_conv.NHWCConv2d(3, 4, 3),
    "NHWCConvTranspose2d": lambda: nhwc_conv.NHWCConvTranspose2d(3, 4, 3),
    "NWCConv1d": lambda: nhwc_conv.NWCConv1d(3, 4, 3),
    "LazyNHWCConv2d": lambda: nhwc_conv.LazyNHWCConv2d(4, 3),
    "LazyNWCConv1d": lambda: nhwc_conv.LazyNWCConv1d(4, 3),
    "LazyConv1d": lambda: nhwc_conv.LazyConv1d(4, 3),
}


def message(name):
    return (
        rf"^torch\.jit\.script cannot compile nhwc_conv\.{name}: use torch\.jit\.trace or torch\.export, or script the "
        r"model that nhwc_conv\.revert gives back$"
    )


@pytest.mark.parametrize("name", LAYERS)
def test_layers_cannot_be_scripted(name):
    for module in (LAYERS[name](), nn.Sequential(nn.ReLU(), nn.Sequential(LAYERS[name]()))):
        with pytest.raises(RuntimeError, match=message(name)):
            torch.jit.script(module)


@pytest.mark.parametrize(("inference", "name"), [(False, "Conv2d"), (True, "FusedConv2d")])
def test_converted_models_cannot_be_scripted_but_traced_and_reverted(inference, name):
    model, x = converted(inference), torch.randn(2, 3, 7, 8)
    with pytest.raises(RuntimeError, match=message(name)):
        torch.jit.script(model)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.trace(model, x)(x), model(x))
        expected = model(x)
        torch.testing.assert_close(torch.jit.script(nhwc_conv.revert(model))(x), expected)


def convolves(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return nhwc_conv.conv2d(x, w)


def convolves_transposed(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return nhwc_conv.conv_transpose2d(x, w)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (convolves, "conv2d"),
        (convolves_transposed, "conv_transpose2d"),
        (nhwc_conv.conv2d, "conv2d"),
        (nhwc_conv.conv_transpose2d, "conv_transpose2d"),
        (nhwc_conv.conv1d, "conv1d"),
        (nhwc_conv.conv_transpose1d, "conv_transpose1d"),
    ],
)
def test_functions_cannot_be_scripted(function, name):
    with pytest.raises(RuntimeError, match=message(name)):
        torch.jit.script(function)


def calls_the_op(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.ops.nhwc_conv.conv2d(x, w, None, [2, 2])


def test_ops_can_be_scripted():
    x, w = torch.randn(1, 6, 6, 3), torch.randn(3, 3, 3, 4)
    assert torch.equal(torch.jit.script(calls_the_op)(x, w), nhwc_conv.conv2d(x, w, stride=2))
