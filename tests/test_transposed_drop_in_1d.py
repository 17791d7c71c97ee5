"""nhwc_conv.ConvTranspose1d beside torch.nn.ConvTranspose1d: results, gradients, errors, and convert."""

import copy

import drop_ins
import pytest
import torch
from drop_ins import TOLERANCE, check_copies, check_gradients, check_raises_the_same
from spy import OpNames
from torch import nn

import nhwc_conv
from nhwc_conv import ConvTranspose1d

CASES = {
    "upsampling": dict(in_channels=8, out_channels=6, kernel_size=16, stride=8, padding=4),
    "decoder": dict(in_channels=5, out_channels=1, kernel_size=16, stride=8, bias=False),
    "stride 1": dict(in_channels=4, out_channels=7, kernel_size=3, padding=1),
    "groups": dict(in_channels=8, out_channels=12, kernel_size=3, stride=2, groups=4),
    "depthwise": dict(in_channels=6, out_channels=6, kernel_size=4, stride=2, padding=1, groups=6),
    "dilated": dict(in_channels=4, out_channels=3, kernel_size=3, dilation=5, padding=2),
    "output padding": dict(in_channels=3, out_channels=4, kernel_size=3, stride=3, output_padding=2),
}


def pair(name, dtype=torch.float64):
    return drop_ins.pair((nn.ConvTranspose1d, ConvTranspose1d), dtype, **CASES[name])


def sequences(layer, batch, length, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, layer.in_channels, length, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_results_are_torchs(name, dtype, isa):
    theirs, ours = pair(name, dtype)
    x = sequences(theirs, 2, 11, dtype=dtype)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    drop_ins.check_rows(theirs, ours, x, dtype)
    drop_ins.check_rows(theirs, ours, x[:, :, :3], dtype)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_torchs(name):
    theirs, ours = pair(name)
    check_gradients(theirs, ours, sequences(theirs, 2, 7).requires_grad_())


@pytest.mark.parametrize("output_size", [(61,), (2, 6, 63), torch.Size([56])])
def test_output_size(output_size):
    theirs, ours = pair("upsampling")
    x = sequences(theirs, 2, 7)
    torch.testing.assert_close(ours(x, output_size), theirs(x, output_size))
    torch.testing.assert_close(ours(x, output_size=output_size), theirs(x, output_size=output_size))


def zeros(*size, dtype=torch.float64):
    return torch.zeros(size, dtype=dtype)


WRONG = {
    "channels": lambda layer: layer(zeros(1, 5, 4)),
    "rank": lambda layer: layer(zeros(1, 8, 4, 4)),
    "one dimension": lambda layer: layer(zeros(8)),
    "dtype": lambda layer: layer(zeros(1, 8, 4, dtype=torch.float32)),
    "output_size": lambda layer: layer(zeros(1, 8, 4), (7,)),
    "output_size's rank": lambda layer: layer(zeros(1, 8, 4), (7, 7)),
    "no tensor": lambda layer: layer([1.0]),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_torchs(name):
    check_raises_the_same(WRONG[name], pair("upsampling"))


@pytest.mark.parametrize("arguments", [dict(groups=3), dict(padding_mode="reflect"), dict(stride=(1, 2))])
def test_errors_of_the_constructor_are_torchs(arguments):
    check_raises_the_same(
        lambda cls: cls(8, 6, 2, **arguments)(torch.zeros(1, 8, 4)), (nn.ConvTranspose1d, ConvTranspose1d)
    )


def test_our_op_computes_it():
    ours = pair("upsampling")[1]
    with torch.no_grad(), OpNames() as names:
        ours(sequences(ours, 2, 5))
    assert [name for name in names.seen if "conv" in name] == ["nhwc_conv::conv2d_input"]


def test_copies_and_compiled_ones_compute_the_same():
    ours = pair("decoder")[1]
    check_copies(ours, sequences(ours, 2, 5))


def test_from_and_to_torch():
    others = nn.ConvTranspose2d(1, 1, 1), nn.LazyConvTranspose1d(4, 2)
    drop_ins.check_exchange(ConvTranspose1d, pair("groups")[0], others)


class Generator(nn.Module):
    """As HiFi-GAN's: upsampled sequences, and residual blocks of dilated convolutions."""

    def __init__(self, c=8):
        super().__init__()
        self.first = nn.Conv1d(5, c, 7, padding=3)
        self.up = nn.ModuleList([nn.ConvTranspose1d(c, c, 8, 4, 2), nn.ConvTranspose1d(c, c, 4, 2, 1)])
        self.norm = nn.BatchNorm1d(c)
        self.blocks = nn.ModuleList([nn.Conv1d(c, c, 3, padding=d, dilation=d) for d in (1, 3)])
        self.last = nn.Conv1d(c, 1, 7, padding=3)

    def forward(self, x):
        x = self.first(x)
        for up, block in zip(self.up, self.blocks, strict=True):
            x = up(nn.functional.leaky_relu(x, 0.1))
            x = x + block(nn.functional.leaky_relu(x, 0.1))
        return torch.tanh(self.last(self.norm(x)))


@pytest.mark.parametrize("inference", [False, True])
def test_a_generator_is_converted_whole(inference):
    torch.manual_seed(0)
    model, reports = Generator().double().eval(), []
    x = torch.randn(2, 5, 9, dtype=torch.float64)
    expected = model(x)
    example = dict(example=x, inference=True) if inference else {}
    ours = nhwc_conv.convert(copy.deepcopy(model), report=reports.append, **example)
    assert len(reports[0].converted) == 6 and not reports[0].left and not reports[0].fallback
    assert sum(type(layer) is ConvTranspose1d for layer in ours.modules()) == 2
    torch.testing.assert_close(ours(x), expected)
    back = nhwc_conv.revert(ours)
    assert sum(type(layer) is nn.ConvTranspose1d for layer in back.modules()) == 2
    torch.testing.assert_close(back(x), expected)


def test_a_step_of_a_generator_is_the_same():
    torch.manual_seed(0)
    theirs = Generator().double()
    ours = nhwc_conv.convert(copy.deepcopy(theirs))
    gradients = []
    for model in (theirs, ours):
        x = torch.randn(2, 5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        model(x).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)
