"""NWCConv1d and NWCConvTranspose1d beside torch.nn's layers: values, results, state dicts, graphs, errors."""

import copy
import itertools
import pickle

import drop_ins
import pytest
import torch
import torch.nn.functional as F
from drop_ins import TOLERANCE
from torch import nn
from torch.func import vmap
from torch.nn.utils import parametrizations

import nhwc_conv
from nhwc_conv import NWCConv1d, NWCConvTranspose1d, weight_layout

ORDER = 2, 1, 0  # of the weight of one in terms of the other
CONV, TRANSPOSED = (nn.Conv1d, NWCConv1d), (nn.ConvTranspose1d, NWCConvTranspose1d)
CASES = {
    "plain": (CONV, dict(kernel_size=3)),
    "pointwise": (CONV, dict(kernel_size=(1,), bias=False)),
    "causal": (CONV, dict(kernel_size=2, dilation=4, padding=4)),
    "groups": (CONV, dict(kernel_size=4, stride=(3,), padding=(2,), groups=2)),
    "same": (CONV, dict(kernel_size=5, padding="same", dilation=(2,))),
    "reflected": (CONV, dict(kernel_size=7, padding=3, padding_mode="reflect")),
    "circular": (CONV, dict(kernel_size=4, padding="same", padding_mode="circular")),
    "up": (TRANSPOSED, dict(kernel_size=2, stride=2)),
    "vocoder": (TRANSPOSED, dict(kernel_size=16, stride=8, padding=4, bias=False)),
    "up in groups": (TRANSPOSED, dict(kernel_size=3, stride=3, output_padding=1, groups=2, dilation=2)),
}
LAYERS = pytest.mark.parametrize("classes", [CONV, TRANSPOSED], ids=["conv", "transposed"])


def pair(name, dtype=torch.float64):
    classes, options = CASES[name]
    return drop_ins.pair(classes, dtype, 4, 6, **options)


def signal(dtype=torch.float64):
    return torch.randn(3, 20, 4, generator=torch.Generator().manual_seed(1)).to(dtype)


def by_torch(layer, x, *args):
    return layer(x.transpose(-2, -1), *args).transpose(-2, -1)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_values_and_results_are_torchs(name, dtype, isa):
    theirs, ours = pair(name, dtype)
    assert torch.equal(ours.weight, theirs.weight.permute(ORDER)) and ours.weight.is_contiguous()
    assert ours.bias is theirs.bias is None or torch.equal(ours.bias, theirs.bias)
    exact, tolerance = copy.deepcopy(theirs).double(), dict(rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    x = signal(dtype)
    for given in (x, x.transpose(1, 2).contiguous().transpose(1, 2), x[:, ::2], x[0], x[:0]):
        out = ours(given)
        assert out.dtype == dtype and out.is_contiguous()
        torch.testing.assert_close(out.double(), by_torch(exact, given.double()), **tolerance)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_torchs(name):
    found = []
    for layer, call in zip(pair(name), (by_torch, lambda layer, x: layer(x)), strict=True):
        x = signal().requires_grad_()
        leaves = [x, *layer.parameters()]
        first = torch.autograd.grad(call(layer, x).sin().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
        found.append([*first, *second])
    for ours, theirs in zip(*found[::-1], strict=True):
        if ours.dim() == 3 and ours.shape != (3, 20, 4):
            theirs = theirs.permute(ORDER)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_paddings_that_torch_has_not():
    x = signal()
    layer = NWCConv1d(4, 6, 3, 2, (2, 0), padding_mode="replicate", dtype=torch.float64)
    padded = F.pad(x.transpose(1, 2), (2, 0), mode="replicate")
    expected = F.conv1d(padded, layer.weight.permute(ORDER), layer.bias, 2).transpose(1, 2)
    torch.testing.assert_close(layer(x), expected)
    for mode, strings in itertools.product(
        ("zeros", "replicate"), (("same", (0, 1)), ("SAME_LOWER", (1, 0)))
    ):
        options = dict(padding_mode=mode, dtype=torch.float64)
        ours = [NWCConv1d(4, 6, 3, 2, padding, **options) for padding in strings]
        ours[1].load_state_dict(ours[0].state_dict())
        assert torch.equal(ours[0](x), ours[1](x)) and f"padding={strings[0].lower()}" in repr(ours[0])
    up = NWCConvTranspose1d(4, 6, 5, 2, "same", dtype=torch.float64)
    assert up(x).shape == (3, 40, 6) and up(x, output_size=39).shape == (3, 39, 6)


def test_activation_residual_and_algorithm():
    layer = NWCConv1d(4, 6, 3, algorithm="matmul", activation="relu", activation_first=True)
    plain = NWCConv1d(4, 6, 3)
    plain.load_state_dict(layer.state_dict())
    x, residual = signal(torch.float32), torch.randn(3, 18, 6)
    torch.testing.assert_close(layer(x, residual), plain(x).relu() + residual)
    assert "algorithm=matmul, activation=relu, activation_first=True" in repr(layer)
    with pytest.raises(RuntimeError, match="winograd"):
        NWCConv1d(4, 6, 3, algorithm="winograd")(x)


@pytest.mark.parametrize("size", [41, (41,), (3, 41, 6), torch.Size([40])])
def test_output_size(size):
    theirs, ours = pair("up")
    wanted = [size if isinstance(size, int) else size[-2 if len(size) == 3 else 0]]
    torch.testing.assert_close(ours(signal(), output_size=size), by_torch(theirs, signal(), wanted))


PACKED = [name for name, (classes, _) in CASES.items() if classes is CONV]


def ops_of(layer, *tensors):
    """What a layer returns without gradients, and the names of what ran."""
    with torch.no_grad(), torch.profiler.profile() as profile:
        out = layer(*tensors)
    return out, {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", PACKED)
def test_packed_weights(name, dtype, isa):
    theirs, ours = pair(name, dtype)
    plain, x = copy.deepcopy(ours), signal(dtype)
    nhwc_conv.prepack(ours.eval())
    exact, tolerance = copy.deepcopy(theirs).double(), dict(rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    for given in (x, x.transpose(1, 2).contiguous().transpose(1, 2), x[:, ::2], x[0], x[:0]):
        out, ran = ops_of(ours, given)
        assert "nhwc_conv::_convolve_packed" in ran and out.is_contiguous()
        torch.testing.assert_close(out.double(), by_torch(exact, given.double()), **tolerance)
    drop_ins.check_no_view(out)
    ours.set_finish("relu", True)
    residual = torch.ones_like(plain(x))
    out, ran = ops_of(ours, x, residual)
    assert "nhwc_conv::_convolve_finished" in ran
    torch.testing.assert_close(out, plain(x).relu() + residual, **tolerance)
    ours(x).sum().backward()
    assert ours.weight.grad is not None


def test_a_packed_layer_sees_other_weights():
    ours, x = pair("groups")[1], signal()
    plain = copy.deepcopy(ours)
    nhwc_conv.prepack(ours.eval())
    with torch.no_grad():
        ours._packed.tensor[16:] = 0  # behind what it says of itself
        torch.testing.assert_close(ours(x), ours.bias.expand_as(plain(x)))  # it is what runs
        for layer in (plain, ours):
            layer.weight.mul_(3)
        compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
        for call in (ours, compiled, copy.deepcopy(ours)):
            torch.testing.assert_close(call(x), plain(x))
    assert nhwc_conv.prepack(NWCConv1d(4, 6, 3, algorithm="matmul").eval())._packed is None
    assert ours.train()._packed is None


WRONG = {
    "rank": (torch.zeros(4), "Expected 2D .unbatched. or 3D .batched. input to conv1d"),
    "channels": (torch.zeros(1, 9, 5), "to have 4 channels, but got 5 channels"),
    "too short": (torch.zeros(1, 2, 4), "Kernel size can't be greater"),
    "residual": (torch.zeros(1, 9, 4), r"residual to be of size \[1, 7, 6\]", torch.zeros(1, 9, 6)),
    "residual of one dimension": (torch.zeros(1, 9, 4), "residual to be of size", torch.zeros(6)),
    "no tensor": ([1.0], "expected x to be a Tensor"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_of_packed_layers(name):
    x, text, *residual = WRONG[name]
    layer = NWCConv1d(4, 6, 3).eval()
    for ours in (layer, nhwc_conv.prepack(layer)):
        with torch.no_grad(), pytest.raises((RuntimeError, TypeError), match=text):
            ours(x, *residual)


@LAYERS
def test_state_dicts(classes):
    theirs, ours = (cls(4, 6, 3) for cls in classes)
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours.weight, theirs.weight.permute(ORDER))
    again = classes[1](4, 6, 3)
    again.load_state_dict(ours.state_dict())
    assert torch.equal(again.weight, ours.weight)


@LAYERS
def test_state_dicts_that_look_alike(classes):
    """A kernel as long as there are channels at the end of one layout and at the beginning of the other."""
    theirs, ours = (cls(3, 3, 3) for cls in classes)
    with pytest.raises(RuntimeError, match="look alike"):
        ours.load_state_dict(dict(theirs.state_dict()))
    with weight_layout("OIHW"):
        ours.load_state_dict(dict(theirs.state_dict()))
    assert torch.equal(ours.weight, theirs.weight.permute(ORDER))
    again = classes[1](3, 3, 3)
    again.load_state_dict(ours.state_dict())
    assert torch.equal(again.weight, ours.weight)


@LAYERS
def test_norms_over_channels(classes):
    theirs, ours = drop_ins.pair(classes, torch.float64, 4, 6, 3)
    with pytest.raises(ValueError, match=r"weight_norm to be 2 or 1.*\[K, in, out\] order, but got dim=0"):
        parametrizations.weight_norm(copy.deepcopy(ours))(signal())
    for layer, dim in ((theirs, 0), (ours, 2)):
        parametrizations.weight_norm(layer, dim=dim)
        with torch.no_grad():
            g = layer.parametrizations.weight.original0
            g.mul_(torch.arange(1, g.numel() + 1).view_as(g))
    torch.testing.assert_close(ours(signal()), by_torch(theirs, signal()))


@LAYERS
def test_initial_values(classes):
    theirs, ours = (cls(4, 6, 3) for cls in classes)
    for initialise in ("kaiming_normal_", "xavier_uniform_", "orthogonal_", "dirac_"):
        for init, layer in ((nn.init, theirs), (nhwc_conv.nn.init, ours)):
            torch.manual_seed(0)
            assert getattr(init, initialise)(layer.weight) is layer.weight
        assert torch.equal(ours.weight, theirs.weight.permute(ORDER))


@pytest.mark.parametrize("name", ["groups", "same", "circular", "up in groups"])
def test_graphs_transforms_and_copies(name):
    ours = pair(name)[1]
    x = signal()
    expected = ours(x)
    for layer in (
        torch.export.export(ours, (x,)).module(),
        torch.compile(ours, backend="aot_eager", fullgraph=True, dynamic=True),
        torch.fx.symbolic_trace(nn.Sequential(ours)),
        vmap(ours),
        copy.deepcopy(ours),
        pickle.loads(pickle.dumps(ours)),
    ):
        torch.testing.assert_close(layer(x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours.float()(x.float()).dtype == torch.bfloat16
    assert ours.double().to("meta")(x.to("meta")).shape == expected.shape


BAD = [
    (NWCConv1d, dict(groups=0), "groups=0"),
    (NWCConv1d, dict(groups=3), "in_channels=4, groups=3"),
    (NWCConv1d, dict(padding="full"), "padding='full'"),
    (NWCConv1d, dict(padding_mode="mirror"), "padding_mode='mirror'"),
    (NWCConv1d, dict(algorithm="fft"), "algorithm='fft'"),
    (NWCConv1d, dict(activation="softmax"), "softmax"),
    (NWCConv1d, dict(stride=(1, 2)), r"stride=\[1, 2\]"),
    (NWCConv1d, dict(padding=(1, 2, 3)), r"padding=\[1, 2, 3\]"),
    (NWCConv1d, dict(dilation=1.5), "dilation=1.5"),
    (NWCConvTranspose1d, dict(padding_mode="reflect"), "padding_mode='reflect'"),
    (NWCConvTranspose1d, dict(padding="same", output_padding=1, stride=2), "output_padding=1"),
    (NWCConvTranspose1d, dict(output_padding=(1, 1)), r"output_padding=\[1, 1\]"),
]


@pytest.mark.parametrize(("cls", "bad", "text"), BAD, ids=str)
def test_bad_arguments(cls, bad, text):
    with pytest.raises((RuntimeError, TypeError, ValueError), match=text):
        cls(4, 6, 3, **bad)
