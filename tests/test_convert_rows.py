"""BatchNorm1d behind nn.Linear in models converted for inference."""

import pytest
import torch
from torch import nn

import nhwc_conv


def drawn(model):
    """In eval mode, with statistics that are not those of a new BatchNorm."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                if tensor is not None:
                    tensor.data.uniform_(0.5, 1.5)
    return model.eval()


def converted(model, x):
    reports = []
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True, report=reports.append)
    assert not reports[0].fallback
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x), rtol=1e-4, atol=1e-5)
    return ours, reports[0]


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm1d)]


class Tokens(nn.Module):
    """As LeViT has it, of Graham et al., 2021."""

    def __init__(self, bias):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.linear, self.norm, self.act = nn.Linear(8, 8, bias), nn.BatchNorm1d(8), nn.Hardswish()

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        y = self.linear(x)
        y = self.norm(y.flatten(0, 1)).reshape_as(y)
        return x + self.act(y)


@pytest.mark.parametrize("bias", [False, True])
def test_norms_of_tokens(bias):
    ours, report = converted(drawn(Tokens(bias)), torch.randn(2, 3, 8, 12))
    assert report.folded == {"norm": "linear"} and report.fused["act"] == "linear" and not norms(ours)
    assert "reshape_as" not in ours.code and "flatten(0, 1)" not in ours.code
    with torch.no_grad():
        assert ours(torch.randn(1, 3, 20, 16)).shape == (1, 20, 8)
        with pytest.raises(ValueError, match="expected a tensor of 4 dimensions.*got one of 3"):
            ours(torch.randn(3, 8, 12))


def test_norms_of_samples():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 12), nn.BatchNorm1d(12, affine=False), nn.ReLU(),
        nn.Linear(12, 4, bias=False), nn.BatchNorm1d(4),
    )  # fmt: skip
    ours, report = converted(drawn(model), torch.randn(3, 3, 6, 6))
    assert report.folded == {"3": "2", "6": "5"} and report.fused == {"4": "2"} and not norms(ours)


class OverTokens(nn.Module):
    """Whose BatchNorm has as many channels as there are results of the layer, but along another dimension."""

    def __init__(self, flattens):
        super().__init__()
        self.flattens = flattens
        self.linear, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)

    def forward(self, x):
        y = self.linear(x)
        return self.norm(y.flatten(0, 1)).reshape_as(y) if self.flattens else self.norm(y)


@pytest.mark.parametrize("size, flattens", [((4, 6, 6), False), ((2, 2, 6, 6), True)])
def test_norms_over_another_dimension_stay(size, flattens):
    ours, report = converted(drawn(OverTokens(flattens)), torch.randn(size))
    assert not report.folded and list(report.unfolded) == ["norm"] and len(norms(ours)) == 1


class Watched(OverTokens):
    """Whose linear layer is seen before the BatchNorm, too, or read past its calls."""

    def __init__(self, how):
        super().__init__(False)
        self.how = how

    def forward(self, x):
        y = self.linear(x)
        z = self.norm(y)
        return z * y if self.how == "result" else z * self.linear.weight.sum()


@pytest.mark.parametrize("how", ["result", "weight"])
def test_norms_of_what_is_seen_elsewhere_stay(how):
    ours, report = converted(drawn(Watched(how)), torch.randn(5, 6))
    assert not report.folded and len(norms(ours)) == 1


class Twice(nn.Module):
    """One BatchNorm, of matrices and of signals."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)

    def forward(self, x):
        return self.norm(self.linear(x)) + self.norm(self.linear(x).unsqueeze(-1)).squeeze(-1)


def test_norms_of_several_kinds_stay():
    ours, report = converted(drawn(Twice()), torch.randn(5, 6))
    assert not report.folded and len(norms(ours)) == 1


def test_layers_that_are_called_twice_keep_a_copy_without_the_norm():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)

        def forward(self, x):
            return self.linear(self.norm(self.linear(x)))

    ours, report = converted(drawn(Shared()), torch.randn(5, 6))
    assert report.folded == {"norm": "linear"} and not norms(ours)


def test_norms_with_hooks_or_statistics_of_their_batch_stay():
    model = nn.Sequential(
        nn.Linear(6, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 6), nn.BatchNorm1d(6)
    )
    drawn(model)[3].register_forward_hook(lambda *_: None)
    _, report = converted(model, torch.randn(5, 6))
    assert not report.folded and set(report.unfolded) == {"1", "3"}


def test_norms_behind_an_activation_stay():
    model = nn.Sequential(nhwc_conv.nn.FusedLinear(6, 6, activation="relu"), nn.BatchNorm1d(6))
    _, report = converted(drawn(model), torch.randn(5, 6))
    assert not report.folded and list(report.unfolded) == ["1"]
