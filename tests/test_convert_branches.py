"""convert(inference=True): convolutions of one tensor whose results are added, as RepVGG and MobileOne train them."""

import pytest
import torch
from test_convert_inference import X, converted, kinds, trained
from torch import nn

import nhwc_conv
from nhwc_conv import Conv2d
from nhwc_conv.nn import FusedConv2d

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")


class Branches(nn.Module):
    """The sum of branches, begun with 0, and an activation."""

    def __init__(self, *branches, start=0):
        super().__init__()
        self.branches, self.act, self.start = nn.ModuleList(branches), nn.ReLU(), start

    def forward(self, x):
        y = self.start
        for branch in self.branches:
            y = y + branch(x)
        return self.act(y)


class InPlace(Branches):
    def forward(self, x):
        y = self.branches[0](x)
        for branch in self.branches[1:]:
            y += branch(x)
        y += 0
        return self.act(y)


def branch(kernel, c=4, o=4, **arguments):
    arguments = dict(bias=False, padding=kernel // 2) | arguments
    return nn.Sequential(nn.Conv2d(c, o, kernel, **arguments), nn.BatchNorm2d(o))


MERGED = {
    "RepVGG": lambda: (branch(3), branch(1), nn.BatchNorm2d(4)),
    "MobileOne": lambda: (nn.BatchNorm2d(4), branch(1, groups=4), branch(3, groups=4), branch(3, groups=4)),
    "at a stride": lambda: (branch(1, o=6, stride=2), branch(3, o=6, stride=2)),
    "of groups": lambda: (branch(3, o=4, groups=2), nn.BatchNorm2d(4)),
    "of no padding": lambda: (branch(5, padding=1), branch(3, padding=0)),
    "same": lambda: (branch(5, padding="same"), branch(3)),
    "of a column": lambda: (
        nn.Conv2d(4, 4, (3, 1), padding=(1, 0)), nn.Conv2d(4, 4, (3, 1), padding=(1, 0)), nn.BatchNorm2d(4),
    ),
    "with biases": lambda: (nn.Conv2d(4, 5, 3, padding=1), nn.Conv2d(4, 5, 1)),
}  # fmt: skip


@pytest.mark.parametrize("kind", [Branches, InPlace])
@pytest.mark.parametrize("name", MERGED)
def test_branches_are_one_convolution(name, kind):
    model = trained(kind(*MERGED[name]()))
    ours, report = converted(model, strict=True)
    assert kinds(ours) == [FusedConv2d] and not report.unfolded and not report.unfused
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert len(report.folded) == norms and len(report.fused) == len(model.branches)


def test_signals_too():
    convs = (nn.Conv1d(4, 4, k, padding=k // 2) for k in (7, 3))
    model, x = trained(Branches(*convs, nn.BatchNorm1d(4))), X[:, :, 0]
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True)
    assert len([m for m in ours.modules() if isinstance(m, nn.Conv1d)]) == 1
    torch.testing.assert_close(ours(x), model(x), rtol=1e-10, atol=1e-10)


APART = {
    "strides": lambda: (branch(3, stride=2), branch(1)),
    "a stride of BatchNorm": lambda: (branch(3, stride=2), nn.BatchNorm2d(4)),
    "groups": lambda: (branch(3), branch(3, groups=4)),
    "places": lambda: (branch(4, padding=1, stride=2), branch(1, stride=2)),
    "ends": lambda: (branch(2, padding=0, stride=2), branch(1, stride=2)),
    "dilations": lambda: (branch(3, dilation=2, padding=2), branch(3)),
    "paddings": lambda: (branch(3, padding_mode="reflect"), branch(3)),
    "columns and rows": lambda: (
        nn.Conv2d(4, 4, (3, 1), padding=(1, 0)), nn.Conv2d(4, 4, (1, 3), padding=(0, 1)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", APART)
def test_branches_that_stay_apart(name):
    x = X[:, :, :1, :1] if "stride" in name else X[:, :, :8]
    ours, _ = converted(trained(Branches(*APART[name]())), x, strict=True)
    assert len([kind for kind in kinds(ours) if kind is not nn.ReLU]) == 2


class Written(Branches):
    """The tensor is written to between two branches."""

    def forward(self, x):
        x = x * 1
        y = self.branches[0](x)
        x.add_(1)
        return self.act(y + self.branches[1](x))


class Returned(Branches):
    def forward(self, x):
        y = self.branches[0](x)
        return self.act(y + self.branches[1](x)), y


class Others(Branches):
    def forward(self, x):
        twice = x * 2
        return self.act(self.branches[0](x) + self.branches[1](twice))


class Itself(Branches):
    def forward(self, x):
        y = self.branches[0](x)
        return self.act(y + y)


@pytest.mark.parametrize(("kind", "count"), [(Written, 2), (Returned, 2), (Others, 2), (Itself, 1)])
def test_what_else_is_seen(kind, count):
    ours, _ = converted(trained(kind(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1))), strict=True)
    assert len(kinds(ours)) == count


def test_watched_branches_stay():
    model = trained(Branches(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)))
    seen = []
    model.branches[0].register_forward_hook(lambda *_: seen.append(1))
    ours, _ = converted(model)
    del seen[:]
    ours(X)
    assert seen and len([m for m in ours.modules() if isinstance(m, (Conv2d, FusedConv2d))]) == 2


def test_what_is_added_to_0_must_be_a_layers():
    """Adding 0 makes integers of booleans."""

    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x):
            y = self.conv(x)
            return y, (y > 0) + 0

    ours, _ = converted(trained(Counts()))
    assert ours(X)[1].dtype == torch.int64
