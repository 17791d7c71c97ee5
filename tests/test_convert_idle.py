"""convert(model, inference=True): what does nothing in eval mode goes."""

import pytest
import torch
import torch.nn.functional as F
from test_convert_inference import X, converted, kinds, trained
from torch import nn

from nhwc_conv import Conv2d, convert
from nhwc_conv.nn import FusedConv2d


def test_what_does_nothing_in_eval_mode_goes():
    idle = nn.Identity(), nn.Dropout(), nn.Dropout2d(), nn.FeatureAlphaDropout(), nn.AlphaDropout()
    model = nn.Sequential(
        nn.Conv2d(4, 4, 3), *idle, nn.BatchNorm2d(4), nn.Identity(), nn.ReLU(), nn.Dropout()
    )
    ours, report = converted(trained(model))
    assert report.folded == {"6": "0"} and report.fused == {"8": "0"}
    assert [type(m) for m in ours.children()] == [FusedConv2d]


class Dropping(nn.Module):
    def __init__(self, training):
        super().__init__()
        self.conv, self.bn, self.always = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), training

    def forward(self, x):
        return self.bn(F.dropout(self.conv(x), 0.5, self.training or self.always))


def test_dropout_as_a_function():
    assert converted(trained(Dropping(False)))[1].folded == {"bn": "conv"}
    reports = []
    convert(trained(Dropping(True)), inference=True, example=X, report=reports.append)
    assert reports[0].unfolded == {"bn": "it follows dropout, not a convolution"}


@torch.fx.wrap
def stochastic_depth(input, p, mode, training=True):
    return input * torch.rand(()) if training else input


# torchvision's, which has that signature and which torch.fx does not look into either.
stochastic_depth.__module__ = "torchvision.ops.stochastic_depth"


class Deep(nn.Module):
    def __init__(self, always):
        super().__init__()
        self.conv, self.always = nn.Conv2d(4, 4, 1), always

    def forward(self, x):
        return x + stochastic_depth(self.conv(x), 0.5, "row", self.training or self.always)


@pytest.mark.parametrize("always", [False, True])
def test_stochastic_depth(always):
    ours = convert(trained(Deep(always)), inference=True, example=X)
    stays = any(node.target is stochastic_depth for node in ours.graph.nodes)
    assert stays == always and kinds(ours) == [Conv2d if always else FusedConv2d]
