"""A program sees in every call what its layers are now."""

import copy

import pytest
import torch
from test_programs import made, one_by_one, spied
from torch import nn

import nhwc_conv
from nhwc_conv.nn import FusedConv2d

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")


@pytest.mark.needs_extension
def test_changed_layers(monkeypatch):
    """Weights that were written to are packed anew, by the layers; other arguments count at once."""
    model, ours, x = made()
    calls = spied(monkeypatch)
    with torch.no_grad():
        ours(x)
        ours.b.weight.mul_(2)
        model.b.weight.data = ours.b.weight.data.clone()
        torch.testing.assert_close(ours(x), model(x))
        torch.testing.assert_close(ours(x), model(x))
        assert calls == [4, 4]
        ours.b.padding, ours.b.dilation = (2, 2), (2, 2)
        model.b.padding, model.b.dilation = (2, 2), (2, 2)
        torch.testing.assert_close(ours(x), model(x))
        ours.a.set_finish("tanh", False)
        expected = one_by_one(ours, x)
        torch.testing.assert_close(ours(x), expected)
        ours.a.bias = None
        expected = one_by_one(ours, x)
        torch.testing.assert_close(ours(x), expected)
        assert calls == [4] * 5
        ours.train().eval()
        torch.testing.assert_close(ours(x), expected)
        with pytest.raises(RuntimeError, match="channels"):
            ours(x[:, :7])


def weight_written_to(layer):
    layer.weight.mul_(2)


def other_memory(layer):
    layer.weight.data = layer.weight.data * 2


def other_order(layer):
    layer.weight.data = layer.weight.data.transpose(0, 1)


def other_parameter(layer):
    layer.weight = nn.Parameter(layer.weight * 2)


def other_bias(layer):
    layer.bias = nn.Parameter(layer.bias + 1)


def bias_written_to(layer):
    layer.bias.add_(1)


def other_class(layer):
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", nn.Softplus())


@pytest.mark.needs_extension
@pytest.mark.parametrize(
    "change",
    [weight_written_to, other_memory, other_order, other_parameter, other_bias, bias_written_to, other_class],
)
def test_layers_changed_between_calls(change):
    """Of the second call on, nothing is as it was encoded."""
    torch.manual_seed(0)
    parts = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).eval()
    x = torch.randn(1, 4, 7, 8)
    ours = nhwc_conv.convert(parts, inference=True, example=x, strict=True)
    layer = next(m for m in ours.modules() if isinstance(m, FusedConv2d))
    with torch.no_grad():
        before = ours(x)
        change(layer)
        after = ours(x)
        expected = one_by_one(ours, x)
    assert not torch.allclose(after, before, rtol=1e-2)
    torch.testing.assert_close(after, expected)


def test_what_is_packed_is_dropped():
    """Training, moving and copying leave no second copy of the weights behind."""
    _, ours, x = made()
    with torch.no_grad():
        ours(x)
    assert ours.program._packed is not None and copy.deepcopy(ours).program._packed is None
    for change in (ours.train, ours.double):
        change()
        assert ours.program._packed is None
        nhwc_conv.prepack(ours.eval().float())
        with torch.no_grad():
            ours(x)
        assert ours.program._packed is not None


class Forwarding(nn.Module):
    """Stands for another module, as what torch.compile returns does."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def __getattr__(self, name):
        return getattr(super().__getattr__("inner"), name) if name != "inner" else super().__getattr__(name)


def test_layers_are_looked_up_in_every_call():
    """By their paths, whatever stands there or on the way now."""
    torch.manual_seed(0)
    parts = nn.ModuleDict({"0": nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1))})

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = parts
            self.last = nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.last(self.parts["0"](x))

    x = torch.randn(2, 4, 6, 7)
    ours = nhwc_conv.convert(Outer().eval(), inference=True, example=x, strict=True)
    assert ours.code.count("modules_at(") == 1 and "getattr(self" not in ours.code
    with torch.no_grad():
        expected = ours(x)
        wrapped = Forwarding(ours.parts._modules["0"])
        ours.parts._modules["0"] = wrapped
        assert torch.equal(ours(x), expected)
        other = nhwc_conv.prepack(nhwc_conv.Conv2d(4, 2, 1).eval())
        ours.last = other
        assert not torch.equal(ours(x), expected)
        first, second = wrapped.inner.children()
        torch.testing.assert_close(ours(x), other(second(first(x))))
        del ours.last
        with pytest.raises(AttributeError, match="last"):
            ours(x)
