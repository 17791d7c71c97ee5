"""convert(model, inference=True): what is folded beside plain modules, and why the rest is not, in the report."""

import pytest
import torch
import torch.nn.functional as F
from models import as_trained
from test_convert_inference import X, converted, kinds, trained, watched
from torch import nn

from nhwc_conv import Conv2d, convert
from nhwc_conv.nn import FusedConv2d


class NormAct(nn.BatchNorm2d):
    """BatchNorm by the function and an activation behind it, as timm's BatchNormAct2d."""

    def __init__(self, c, act):
        super().__init__(c)
        self.drop, self.act = nn.Identity(), act

    def forward(self, x):
        torch._assert(x.ndim == 4, f"expected an image, but got {x.ndim} dimensions")
        statistics = self.running_mean, self.running_var
        x = F.batch_norm(x, *statistics, self.weight, self.bias, self.training, self.momentum, self.eps)
        return self.act(self.drop(x))


class Functional(nn.Module):
    """Nothing but functions over parameters."""

    def __init__(self, **options):
        super().__init__()
        self.options = options
        channels = 4 // options.get("groups", 1)
        self.kernel = nn.Parameter(torch.randn(4, channels, 3, 3))
        self.shift = nn.Parameter(torch.randn(4)) if options.pop("bias", True) else None

    def forward(self, x):
        return F.relu(F.conv2d(x, self.kernel, self.shift, **self.options))


def test_norms_with_activations_within():
    model = trained(nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), NormAct(4, nn.ReLU())))
    ours, report = converted(model)
    assert report.folded == {"1": "0"} and report.fused == {"1.act": "0"} and kinds(ours) == [FusedConv2d]


def test_synchronised_norms():
    model = trained(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))
    ours, report = converted(nn.SyncBatchNorm.convert_sync_batchnorm(model))
    assert report.folded == {"1": "0"} and kinds(ours) == [Conv2d]


@pytest.mark.parametrize(
    "options",
    [dict(), dict(bias=False), dict(stride=2, padding=1), dict(groups=4, padding="same", dilation=2)],
)
def test_functions_become_layers(options):
    model = trained(nn.Sequential(Functional(**options), nn.BatchNorm2d(4)))
    ours, report = converted(model)
    norm, layer = (m for m in ours.modules() if isinstance(m, Conv2d))
    assert (
        norm.kernel_size == (1, 1)
        and type(layer) is FusedConv2d
        and layer._packed is not None
        and layer.weight is model[0].kernel
    )
    assert list(report.converted) == ["0.conv2d"] and list(report.fused) == ["0.relu"]
    assert report.unfolded == {"1": "it follows relu, not a convolution"}


class Computed(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.kernel, self.weight = nn.Parameter(torch.randn(4, 4, 3, 3)), weight
        self.register_buffer("buffer", torch.randn(4, 4, 3, 3))

    def forward(self, x):
        return F.conv2d(x, self.weight(self, x))


@pytest.mark.parametrize(
    ("weight", "why"),
    [
        (lambda m, x: x[:1].mean() * m.kernel, "F.conv2d of a weight that is computed"),
    ],
)
def test_functions_that_stay(weight, why):
    _, report = converted(trained(nn.Sequential(Computed(weight), nn.Conv2d(4, 4, 1))))
    assert report.left == {"0.conv2d": why} and list(report.converted) == ["1"]


@pytest.mark.parametrize(
    "weight",
    [lambda m, x: m.kernel * 2, lambda m, x: m.buffer, lambda m, x: m.buffer[:, :1].expand(4, 4, 3, 3)],
)
def test_weights_computed_of_parameters_alone(weight):
    ours, report = converted(trained(nn.Sequential(Computed(weight), nn.Conv2d(4, 4, 1))))
    assert report.converted.keys() == {"0.conv2d", "1"} and kinds(ours) == [Conv2d, Conv2d]


class Bypassing(nn.Module):
    """Reads the values of what is between, and its size."""

    def __init__(self, read):
        super().__init__()
        self.conv, self.bn, self.read = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), read

    def forward(self, x):
        y = self.conv(x)
        return self.bn(y).relu() * self.read(y)


@pytest.mark.parametrize(
    ("read", "folds"), [(lambda y: y.shape[1], True), (lambda y: y.size(1), True), (lambda y: y.sum(), False)]
)
def test_reading_a_size_is_not_seeing_values(read, folds):
    _, report = converted(trained(Bypassing(read)))
    assert len(report.folded) == int(folds)


class Elsewhere(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.conv(x)
        return self.bn(y) + y


class Doubled(nn.BatchNorm2d):
    """Its scale is twice its weight."""

    def forward(self, x):
        return F.batch_norm(
            x, self.running_mean, self.running_var, 2 * self.weight, self.bias, False, eps=self.eps
        )


class Special(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) * 2


def sequence(*layers):
    return lambda: nn.Sequential(*(layer() for layer in layers))


def conv():
    return nn.Conv2d(4, 4, 1)


def norm(**options):
    return nn.BatchNorm2d(4, **options)


ELSEWHERE = "the result of the convolution 'conv' goes elsewhere too"
UNFOLDED = {
    "used twice": (Elsewhere, "bn", ELSEWHERE),
    "norm first": (sequence(norm, nn.ReLU, conv), "0", "it follows an input, not a convolution"),
    "after a pool": (sequence(conv, nn.ReLU6, norm), "2", "it follows ReLU6, not a convolution"),
    "special norm": (sequence(conv, lambda: Doubled(4)), "1", "its scale or shift is computed in the model"),
    "special convolution": (
        sequence(lambda: Special(4, 4, 1), norm), "1", "Special may do more than a convolution"
    ),
    "hooks": (sequence(conv, lambda: watched(norm())), "1", "it has hooks"),
    "hooks before": (sequence(lambda: watched(conv()), norm), "1", "the convolution '0' has hooks"),
    "no statistics": (
        sequence(conv, lambda: norm(track_running_stats=False)), "1", "it computes with the statistics of its batch"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFOLDED)
def test_why_a_norm_stays(name):
    make, path, why = UNFOLDED[name]
    _, report = converted(trained(make()))
    assert report.unfolded == {path: why} and f"unfolded   {path}: {why}" in str(report)


def test_a_norm_of_another_dtype_stays():
    """Its sums are float32, where a convolution of bfloat16 would round the folded weights."""
    model, reports = as_trained(nn.Sequential(conv().bfloat16(), norm())).eval(), []
    convert(model, inference=True, example=X.bfloat16(), report=reports.append)
    assert reports[0].unfolded == {"1": "it is of another dtype than the convolution '0'"}


def test_subclasses_that_compute_what_their_base_does():
    class Norm(nn.BatchNorm2d):
        pass

    class Rectifier(nn.ReLU):
        pass

    ours, report = converted(trained(nn.Sequential(nn.Conv2d(4, 4, 1), Norm(4), Rectifier())))
    assert report.folded == {"1": "0"} and report.fused == {"2": "0"} and kinds(ours) == [FusedConv2d]


class Partly(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.spare = nn.Sequential(nn.Conv2d(4, 4, 1), norm()), nn.Sequential(norm(), nn.ReLU())

    def forward(self, x):
        return self.body(x)


def test_what_the_example_does_not_call():
    _, report = converted(trained(Partly()))
    assert report.folded == {"body.1": "body.0"} and report.unfolded == {
        "spare.0": "the example does not call it"
    }
    assert report.unfused == {"spare.1": "the example does not call it"}


def test_why_an_activation_stays():
    layers = nn.Conv2d(4, 4, 1), nn.Softplus(), nn.ReLU(), nn.Conv2d(4, 4, 1), watched(nn.ReLU())
    _, report = converted(trained(nn.Sequential(*layers)))
    assert report.unfused == {
        "1": "Softplus: a convolution does not do it",
        "2": "it follows Softplus, not a convolution",
        "4": "it has hooks",
    }


def test_activations_as_functions_and_methods():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(3))

        def forward(self, x):
            return F.selu(self.convs[2](torch.celu(self.convs[1](F.softplus(self.convs[0](x))))))

    _, report = converted(trained(Model()))
    assert set(report.unfused.values()) == {
        f"{name}: a convolution does not do it" for name in ("softplus", "celu", "selu")
    }


class ByValue(nn.Module):
    """Not to be traced."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else -self.conv(x)


def test_modules_whose_forward_was_replaced():
    """A bound method calls the module that it is bound to: a copy of the module would call the original."""
    model = trained(nn.Sequential(ByValue(), nn.Conv2d(4, 4, 1)))
    model[0].forward = model[0].forward
    ours, report = converted(model)
    assert list(report.converted) == ["1"] and type(model[0].conv) is nn.Conv2d and ours[0] is model[0]
    assert report.left == {"0.conv": "inside '0', whose forward was replaced on the instance"}


def test_advice_on_memory_formats():
    class Reading(nn.Module):
        def forward(self, x):
            return x * len(x.stride())  # so that images stay where they are

    model, reports = as_trained(nn.Sequential(nn.Conv2d(4, 4, 3), Reading())).eval(), []
    x = torch.randn(1, 4, 8, 8)
    convert(model, inference=True, example=x, report=reports.append)
    convert(model, inference=True, example=x.to(memory_format=torch.channels_last), report=reports.append)
    assert "torch.channels_last" in reports[0].advice[0] and not reports[1].advice
