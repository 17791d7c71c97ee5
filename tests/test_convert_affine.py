"""convert(inference=True): one factor and one summand behind an activation, as in HGNetV2."""

import pytest
import torch
import torch.nn.functional as F
from test_convert_inference import converted, trained
from torch import nn

from nhwc_conv.nn import FusedConv2d

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")


class Affine(nn.Module):
    """A convolution, an activation, and a number that multiplies, and one that is added."""

    def __init__(self, act, scale=0.7, shift=-0.3, read=None, bias=True):
        super().__init__()
        self.conv, self.act = nn.Conv2d(4, 5, 3, padding=1, bias=bias), act
        self.scale, self.shift = nn.Parameter(torch.tensor([scale])), nn.Parameter(torch.tensor([shift]))
        self.last, self.read = nn.Conv2d(5, 3, 3, padding=1), read

    def forward(self, x):
        y = self.act(self.conv(x))
        z = self.scale * y + self.shift
        return self.last(z if self.read is None else self.read(y, z))


def numbers(ours):
    """Of products and sums that are left."""
    return sum(node.op == "get_attr" and str(node.target) in ("scale", "shift") for node in ours.graph.nodes)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("scale", "shift"), [(0.7, -0.3), (-1.3, 0.2), (2.0, 0.0)])
@pytest.mark.parametrize(
    "act", [F.relu, nn.ReLU6(), lambda x: x.clamp(-0.2, 0.3), nn.Hardtanh(), lambda x: x.clamp(max=0.1)]
)
def test_clamps_take_both(act, scale, shift, bias):
    ours, report = converted(trained(Affine(act, scale, shift, bias=bias)), strict=True)
    assert numbers(ours) == 0 and not report.unfused
    (first,) = (m for m in ours.modules() if type(m) is FusedConv2d)
    assert report.fused["mul"] == report.fused["add"] == "conv" and first.activation[0] == "clamp"


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (dict(act=F.silu), 2),
        (dict(act=F.relu, scale=0.0), 2),
        (dict(act=F.relu, read=lambda y, z: y + z), 2),
        (dict(act=lambda x: F.relu(x) + x.new_ones(1)), 2),
    ],
)
def test_what_is_left(arguments, left):
    ours, _ = converted(trained(Affine(**arguments)), strict=True)
    assert numbers(ours) == left


@pytest.mark.parametrize("shape", [(5, 1, 1), (8,)])
def test_a_number_for_each_channel_or_column_stays_behind_an_activation(shape):
    model = trained(Affine(F.relu))
    model.scale = nn.Parameter(torch.linspace(-1, 1, shape[0], dtype=torch.float64).view(shape))
    ours, _ = converted(model, strict=True)
    assert numbers(ours) == 2


def test_a_residual_would_be_multiplied_too():
    class Residual(Affine):
        def forward(self, x):
            first = self.last(x).sin()
            return self.scale * F.relu(self.conv(x) + first) + self.shift

    model = Residual(F.relu)
    model.last = nn.Conv2d(4, 5, 1)
    ours, _ = converted(trained(model), strict=True)
    assert numbers(ours) == 2
