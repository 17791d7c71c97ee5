"""nhwc_conv.ConvTranspose2d beside torch.nn.ConvTranspose2d: results, formats, gradients, errors, and convert."""

import copy

import drop_ins
import pytest
import torch
import torch.nn.functional as F
from drop_ins import TOLERANCE, check_copies, check_gradients, check_raises_the_same
from spy import OpNames
from torch import nn

import nhwc_conv
from nhwc_conv import ConvTranspose2d

CASES = {
    "upsampling": dict(in_channels=8, out_channels=6, kernel_size=2, stride=2),
    "overlapping": dict(in_channels=5, out_channels=7, kernel_size=4, stride=2, padding=1, bias=False),
    "generator's first": dict(in_channels=9, out_channels=4, kernel_size=(3, 4)),
    "stride 1": dict(in_channels=4, out_channels=4, kernel_size=3, padding=1),
    "groups": dict(in_channels=8, out_channels=12, kernel_size=(3, 2), stride=(2, 3), groups=4),
    "depthwise": dict(
        in_channels=6, out_channels=6, kernel_size=4, stride=2, padding=1, groups=6, bias=False
    ),
    "dilated": dict(in_channels=4, out_channels=3, kernel_size=3, dilation=(2, 3), padding=(1, 2)),
    "output padding": dict(
        in_channels=3, out_channels=4, kernel_size=3, stride=(2, 3), padding=1, output_padding=(1, 2)
    ),
}


def pair(name, dtype=torch.float64):
    return drop_ins.pair((nn.ConvTranspose2d, ConvTranspose2d), dtype, **CASES[name])


def images(layer, *sizes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*sizes[:-2], layer.in_channels, *sizes[-2:], generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_results_and_memory_formats_are_torchs(name, dtype, isa):
    theirs, ours = pair(name, dtype)
    x = images(theirs, 2, 5, 6, dtype=dtype)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
    exact = copy.deepcopy(theirs).double()
    for weight_format in (torch.contiguous_format, torch.channels_last):
        theirs, ours = theirs.to(memory_format=weight_format), ours.to(memory_format=weight_format)
        for given in (x, x.contiguous(memory_format=torch.channels_last), x[:, :, ::2, 1:], x[0]):
            for out, like in ((ours(given), theirs(given)), (ours(given).detach(), theirs(given).detach())):
                assert out.dtype == dtype and out.stride() == like.stride()
                expected = exact(given.double())
                torch.testing.assert_close(
                    out.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
                )
    with torch.inference_mode():
        assert torch.equal(ours(x), ours(x.clone()))


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_torchs(name):
    theirs, ours = pair(name)
    x = images(theirs, 2, 5, 6).requires_grad_()
    check_gradients(theirs, ours, x)


@pytest.mark.parametrize("output_size", [(11, 12), (4, 6, 10, 12), torch.Size([10, 13])])
def test_output_size(output_size):
    theirs, ours = pair("upsampling")
    x = images(theirs, 4, 5, 6)
    if len(output_size) == 2:
        torch.testing.assert_close(ours(x, output_size), theirs(x, output_size))
    else:
        torch.testing.assert_close(ours(x, output_size=output_size), theirs(x, output_size=output_size))


WRONG = {
    "channels": lambda layer: layer(torch.zeros(1, 5, 4, 4, dtype=torch.float64)),
    "rank": lambda layer: layer(torch.zeros(4, 4, dtype=torch.float64)),
    "dtype": lambda layer: layer(torch.zeros(1, 8, 4, 4)),
    "output_size": lambda layer: layer(torch.zeros(1, 8, 4, 4, dtype=torch.float64), (7, 8)),
    "output_size's rank": lambda layer: layer(torch.zeros(1, 8, 4, 4, dtype=torch.float64), (7,)),
    "no tensor": lambda layer: layer([1.0]),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_torchs(name):
    check_raises_the_same(WRONG[name], pair("upsampling"))


@pytest.mark.parametrize("arguments", [dict(groups=3), dict(padding_mode="reflect"), dict(stride=(1, 2, 3))])
def test_errors_of_the_constructor_are_torchs(arguments):
    check_raises_the_same(
        lambda cls: cls(8, 6, 2, **arguments)(torch.zeros(1, 8, 4, 4)), (nn.ConvTranspose2d, ConvTranspose2d)
    )


def test_our_op_computes_it():
    ours = pair("upsampling")[1]
    with torch.no_grad(), OpNames() as names:
        ours(images(ours, 2, 5, 6))
    assert [name for name in names.seen if "conv" in name] == ["nhwc_conv::conv2d_input"]


def test_copies_and_compiled_ones_compute_the_same():
    ours = pair("overlapping")[1]
    check_copies(ours, images(ours, 2, 5, 6))


def test_from_and_to_torch():
    others = nn.Conv2d(1, 1, 1), nn.LazyConvTranspose2d(4, 2)
    drop_ins.check_exchange(ConvTranspose2d, pair("groups")[0], others)


class Special(nn.ConvTranspose2d):
    pass


def decoder():
    torch.manual_seed(0)
    up = nn.ConvTranspose2d(6, 4, 2, 2), nn.BatchNorm2d(4), nn.ReLU()
    return nn.Sequential(nn.Conv2d(3, 6, 3), *up, Special(4, 4, 2, 2)).double().eval()


@pytest.mark.parametrize("inference", [False, True])
def test_convert_takes_it_and_revert_gives_it_back(inference):
    model, reports = decoder(), []
    x = torch.randn(2, 3, 7, 8, dtype=torch.float64)
    expected = model(x)
    example = dict(example=x, inference=True) if inference else {}
    ours = nhwc_conv.convert(copy.deepcopy(model), report=reports.append, **example)
    assert list(reports[0].converted) == ["0", "1"]
    assert reports[0].left == {"4": "Special is a subclass of torch.nn.ConvTranspose2d"}
    assert sum(isinstance(layer, ConvTranspose2d) for layer in ours.modules()) == 1
    torch.testing.assert_close(ours(x), expected)
    back = nhwc_conv.revert(ours)
    assert sum(type(layer) is nn.ConvTranspose2d for layer in back.modules()) == 1
    torch.testing.assert_close(back(x), expected)


def test_grouped_like_functional():
    """The drop-in's weight in the order of conv_transpose2d."""
    ours = pair("groups")[1]
    x = images(ours, 2, 5, 6)
    out = nhwc_conv.conv_transpose2d(
        x.permute(0, 2, 3, 1), ours.weight.permute(2, 3, 1, 0), ours.bias, (2, 3), groups=4
    )
    torch.testing.assert_close(ours(x).permute(0, 2, 3, 1), out, rtol=0, atol=0)
    torch.testing.assert_close(
        out.permute(0, 3, 1, 2), F.conv_transpose2d(x, ours.weight, ours.bias, (2, 3), groups=4)
    )
