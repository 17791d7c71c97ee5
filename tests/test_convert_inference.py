"""convert(model, inference=True): what is folded and fused, what is not, and that results are checked."""

import copy

import pytest
import torch
import torch.nn.functional as F
from models import as_trained
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from nhwc_conv import Conv2d, convert
from nhwc_conv.nn import FusedConv2d

X = torch.randn(2, 4, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def trained(model):
    torch.manual_seed(0)
    return as_trained(model).double().eval()


def converted(model, example=X, **options):
    """(converted model, report), after a check against the original that is independent of convert's own."""
    reports = []
    before = copy.deepcopy(model.state_dict()), {name: type(m) for name, m in model.named_modules()}
    ours = convert(model, inference=True, example=example, report=reports.append, **options)
    with torch.no_grad():
        for x in (example, example.flip(0), example.contiguous(memory_format=torch.channels_last)):
            torch.testing.assert_close(ours(x), model(x), rtol=1e-10, atol=1e-10)
    assert before[1] == {name: type(m) for name, m in model.named_modules()}
    torch.testing.assert_close(model.state_dict(), before[0], rtol=0, atol=0)
    return ours, reports[0]


def kinds(model):
    return [type(m) for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.ReLU)]


class Residual(nn.Module):
    """One ReLU module for all, as in ResNet."""

    def __init__(self, c=4):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.conv2, self.bn2 = nn.Conv2d(c, c, 3, padding=1, groups=2), nn.BatchNorm2d(c)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x
        return self.relu(out)


def test_a_residual_block():
    model = trained(nn.Sequential(Residual(), nn.Conv2d(4, 6, 1)))
    ours, report = converted(model)
    assert report.folded == {"0.bn1": "0.conv1", "0.bn2": "0.conv2"} and report.fused == {
        "0.relu": "0.conv2", "0.iadd": "0.conv2",
    }  # fmt: skip
    assert list(report.converted) == ["0.conv1", "0.conv2", "1"] and not report.untraced
    assert sorted(kinds(ours), key=str) == sorted([FusedConv2d, FusedConv2d, Conv2d], key=str)
    convolutions = [m for m in ours.modules() if isinstance(m, Conv2d)]
    assert all(m._packed is not None and not m.training for m in convolutions)
    assert dict(ours.named_parameters())["1.weight"] is model[1].weight
    assert 0 < report.deviation <= report.tolerance < 1e-11
    assert "2 BatchNorms folded, 2 activations and sums fused" in str(report) and "0.bn1 into 0.conv1" in str(
        report
    )


CONVOLUTIONS = {
    "bias": dict(),
    "no bias": dict(bias=False),
    "strided": dict(stride=2, padding=(2, 1)),
    "dilated": dict(dilation=(1, 2), padding="same"),
    "depthwise": dict(groups=4),
    "circular": dict(padding=1, padding_mode="circular"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("affine", [True, False])
def test_every_convolution_folds(name, affine):
    conv, norm = nn.Conv2d(4, 8, 3, **CONVOLUTIONS[name]), nn.BatchNorm2d(8, eps=0.1, affine=affine)
    ours, report = converted(trained(nn.Sequential(conv, norm, nn.ReLU())))
    assert kinds(ours) == [FusedConv2d] and report.folded == {"1": "0"} and report.fused == {"2": "0"}


class Functional(nn.Module):
    def __init__(self, relu):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), relu

    def forward(self, x):
        return self.relu(self.bn(self.conv(x)))


@pytest.mark.parametrize(
    "relu",
    [F.relu, torch.relu, torch.relu_, lambda t: t.relu(), lambda t: t.relu_(), lambda t: F.relu(t, True)],
)
def test_relu_as_a_function(relu):
    ours, report = converted(trained(Functional(relu)))
    assert kinds(ours) == [FusedConv2d] and list(report.fused.values()) == ["conv"]


def test_parametrised_convolutions_fold_and_fuse():
    model = nn.Sequential(weight_norm(nn.Conv2d(4, 4, 3)), nn.BatchNorm2d(4), weight_norm(nn.Conv2d(4, 4, 1)))
    ours, report = converted(trained(model.append(nn.ReLU())))
    assert report.folded == {"1": "0"} and report.fused == {"3": "2"}
    assert isinstance(ours.get_submodule("2"), FusedConv2d)


class SeenElsewhere(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.other = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        y, z = self.conv(x), self.other(x)
        return self.bn(y) + y + F.relu(z) + z


class Special(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) + 1


def watched(module):
    module.register_forward_hook(lambda module, args, out: out + 1)
    return module


STAYING = {
    "seen elsewhere": lambda: SeenElsewhere(),
    "subclass": lambda: nn.Sequential(Special(4, 4, 1), nn.BatchNorm2d(4), Special(4, 4, 1), nn.ReLU()),
    "hook on the convolution": lambda: nn.Sequential(watched(nn.Conv2d(4, 4, 1)), nn.BatchNorm2d(4)),
    "hook on the norm": lambda: nn.Sequential(nn.Conv2d(4, 4, 1), watched(nn.BatchNorm2d(4))),
    "no statistics": lambda: nn.Sequential(
        nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False, track_running_stats=False)
    ),
    "norm first": lambda: nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1)),
    "other norm": lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.InstanceNorm2d(4), nn.Conv2d(4, 4, 1), nn.SELU()),
}  # fmt: skip


@pytest.mark.parametrize("name", STAYING)
@pytest.mark.parametrize("subclasses", [False, True])
def test_what_is_seen_stays(name, subclasses):
    model = trained(STAYING[name]())
    ours, report = converted(model, subclasses=subclasses)
    assert not report.folded
    if name != "seen elsewhere":  # where a layer of its own computes the BatchNorm, and the activation
        assert not report.fused and FusedConv2d not in kinds(ours)


class Twice(nn.Module):
    """One convolution, three calls: with two different norms, and alone."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn1, self.bn2 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.bn1(self.conv(x)) + F.relu(self.bn2(self.conv(x + 1))) + self.conv(x)


def test_a_shared_convolution_folds_call_by_call():
    ours, report = converted(trained(Twice()))
    assert report.folded == {"bn1": "conv", "bn2": "conv"}
    assert sorted(kinds(ours), key=str) == sorted([Conv2d, FusedConv2d, FusedConv2d], key=str)


class DataDependent(nn.Module):
    """torch.fx cannot trace it, but each of its parts."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Residual(), Residual()])
        self.head = nn.Conv2d(4, 2, 1)
        self.nothing = None

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x) if x.sum() > 0 else self.head(-x)


def test_what_cannot_be_traced_is_folded_in_parts():
    ours, report = converted(trained(DataDependent()))
    assert isinstance(ours, DataDependent) and type(ours.head) is Conv2d
    assert "control flow" in report.untraced[""] and list(report.untraced) == [""]
    assert report.folded == {f"blocks.{i}.bn{j}": f"blocks.{i}.conv{j}" for i in (0, 1) for j in (1, 2)}


def test_hooks_go_on_running():
    model = trained(nn.Sequential(Residual(), nn.Sequential(Residual())))
    seen = []
    for module in (model[0], model[0].relu, model[1][0]):
        module.register_forward_hook(lambda module, args, out: seen.append(type(out)))
    ours, report = converted(model)
    assert report.untraced == {"0": "it has hooks", "1.0": "it has hooks"}
    seen.clear()
    with torch.no_grad():
        ours(X)
    assert seen == [torch.Tensor] * 4  # the block's ReLU is called twice
    watched(model)
    ours, report = converted(model)
    assert report.untraced[""] == "it has hooks"


def test_a_model_that_is_a_convolution():
    layer = trained(nn.Conv2d(4, 8, 3))
    ours, _ = converted(layer)
    assert type(ours) is Conv2d and ours._packed is not None and ours.weight is layer.weight
    assert type(layer) is nn.Conv2d


def test_a_converted_model_converts_for_inference():
    model = trained(nn.Sequential(convert(nn.Conv2d(4, 4, 3)), nn.BatchNorm2d(4), nn.ReLU()))
    assert kinds(converted(model)[0]) == [FusedConv2d]


def test_it_needs_eval_mode_and_an_example():
    model = trained(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))
    with pytest.raises(ValueError, match="give it an example"):
        convert(model, inference=True)
    model[1].train()
    with pytest.raises(ValueError, match="eval mode, but '1' is in training mode"):
        convert(model, inference=True, example=X)


class Optional(nn.Module):
    """Branches on arguments that its callers leave out, or give."""

    def __init__(self):
        super().__init__()
        self.block = Residual()

    def forward(self, x, shift=None, negate=False, scale=2.0):
        x = self.block(x) * scale
        if shift is not None:
            x = x + shift
        return -x if negate else x


@pytest.mark.parametrize("given", [(X,), (X, X.flip(0))], ids=len)
def test_arguments_that_are_left_out(given):
    model, reports = trained(Optional()), []
    ours = convert(model, inference=True, example=given, report=reports.append)
    assert not reports[0].untraced and len(reports[0].folded) == 2
    with torch.no_grad():
        torch.testing.assert_close(ours(*given), model(*given))


def test_saved_copied_and_compiled(tmp_path):
    model = trained(nn.Sequential(Residual(), nn.Conv2d(4, 4, 1)))
    ours, _ = converted(model)
    torch.save(ours, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        for other in (loaded, copy.deepcopy(ours), compiled):
            torch.testing.assert_close(other(X), ours(X))
    loaded.load_state_dict(ours.state_dict())


def test_gradients_of_the_fused_layer():
    layer = nn.Conv2d(4, 8, 3, padding=1, dtype=torch.float64)
    x = X.clone().requires_grad_()
    fused = FusedConv2d.from_torch(layer, activation="relu")
    outs = fused(x), layer(x).relu()
    torch.testing.assert_close(*outs)
    grads = [torch.autograd.grad(out.pow(2).sum(), (x, *layer.parameters())) for out in outs]
    torch.testing.assert_close(*grads)
    assert torch.autograd.gradcheck(fused, (x[:1, :, :3, :3].detach().requires_grad_(),))
