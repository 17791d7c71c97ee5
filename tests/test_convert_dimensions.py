"""convert(inference=True): assertions about dimensions between layers, as timm's BatchNormAct2d makes."""

import pytest
import torch
import torch.nn.functional as F
from test_convert_inference import X, converted, trained
from torch import nn

from nhwc_conv.nn.program import Program

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")


def asserted(x, dimensions=4):
    torch._assert(x.ndim == dimensions, f"expected {dimensions}D input (got {x.ndim}D input)")
    return x


class Asserting(nn.Module):
    """A convolution, and BatchNorm that asserts what it gets."""

    def __init__(self, inputs, outputs, **arguments):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(inputs, outputs, 3, padding=1, **arguments), nn.BatchNorm2d(outputs)

    def forward(self, x):
        x = asserted(self.conv(x))
        bn = self.bn
        return F.relu(
            F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias, False, 0.1, bn.eps)
        )


class Network(nn.Module):
    """Every way of images that keeps their dimensions."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = Asserting(4, 6), Asserting(6, 6, groups=6), Asserting(12, 6)
        self.gate, self.pool, self.linear = nn.Conv2d(6, 6, 1), nn.MaxPool2d(2), nn.Linear(6, 3)

    def forward(self, x):
        x = self.a(x)
        x = x + asserted(self.b(x))
        x = asserted(x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True))))
        x = asserted(x + torch.cat([x.split(2, 1)[i] for i in (1, 0, 2)], 1))
        x = self.c(torch.cat([x, F.pad(self.pool(x), (0, 3, 0, 3))], 1))
        return self.linear(asserted(x.mean((2, 3)), 2))


def assertions(model):
    return [node for node in model.graph.nodes if node.target is torch._assert]


def test_images_are_asserted_once():
    ours, report = converted(trained(Network()), X[:, :, :6, :6], strict=True)
    first, last = assertions(ours)
    assert first.args[0].args[0].args[0].op == "placeholder" and last.args[0].args[1] == 2
    assert any(isinstance(m, Program) for m in ours.modules()) and not report.unfused
    assert not [n for n in ours.graph.nodes if n.target is getattr and not n.users]


def test_other_images_still_fail():
    ours, _ = converted(trained(Asserting(4, 6)), strict=True)
    with pytest.raises(AssertionError, match="expected 4D input"):
        ours(X[0])


class Told(nn.Module):
    """What is asserted of tensors whose dimensions are not the image's."""

    def __init__(self, tell):
        super().__init__()
        self.a, self.b, self.tell = nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 3), tell

    def forward(self, x):
        x = self.a(x)
        self.tell(x)
        return self.b(x)


@pytest.mark.parametrize(
    ("tell", "count"),
    [
        (lambda x: asserted(x.flatten(1), 2), 1),
        (lambda x: asserted(x + x.new_zeros(1, 1, 1, 1, 1), 5), 1),
        (lambda x: asserted(x.mean((2, 3)), 2), 1),
        (lambda x: torch._assert(x.dim() >= 3, "few"), 1),
        (lambda x: [torch._assert(x.ndim > n, "few") for n in (2, 3, 3)], 2),
        (lambda x: torch._assert(x.shape[1] == 6, "another"), 1),
    ],
)
def test_each_assertion_is_kept(tell, count):
    ours, _ = converted(trained(Told(tell)), strict=True)
    assert len(assertions(ours)) == count
