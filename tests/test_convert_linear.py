"""nn.Linear, and what makes rows of numbers of images for it, in converted models."""

import pytest
import torch
import torch.nn.functional as F
from test_programs import spied
from torch import nn

import nhwc_conv
from nhwc_conv.nn.program import Program


class Transformer(nn.Module):
    """A patch embedding, and an MLP on what it returns."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.mlp = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))

    def forward(self, x):
        y = self.embed(x).permute(0, 2, 3, 1)
        return y + self.mlp(y)


def test_linear():
    model, reports = Transformer().eval(), []
    x = torch.randn(2, 3, 16, 20)
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True, report=reports.append)
    layers = [m for m in ours.modules() if isinstance(m, nhwc_conv.nn.FusedLinear)]
    assert [m.activation for m in layers] == ["gelu", None] and all(m._packed is not None for m in layers)
    assert reports[0].fused == {"mlp.1": "mlp.0", "add": "mlp.2"}
    assert list(reports[0].linear) == ["mlp.0", "mlp.2"] and list(reports[0].converted) == ["embed"]
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(ours(x), expected)
        theirs = nhwc_conv.revert(ours)
        assert not any(isinstance(m, nhwc_conv.nn.FusedLinear) for m in theirs.modules())
        torch.testing.assert_close(theirs(x), expected)


def test_linear_that_does_more_stays():
    class Row(nn.Linear):
        def forward(self, x):
            return (
                F.linear(x, self.weight[0])
                + F.linear(x, self.bias)
                + F.linear(x, self.weight * x.mean(), self.bias).sum(1)
            )

    def watched():
        layer = nn.Linear(6, 6)
        layer.register_forward_hook(lambda *_: None)
        return layer

    model, reports = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Flatten(), watched(), Row(6, 6)).eval(), []
    x = torch.randn(2, 3, 1, 1)
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True, report=reports.append)
    assert not reports[0].untraced and not reports[0].left
    assert not any(isinstance(m, nhwc_conv.nn.FusedLinear) for m in ours.modules())


class Own(nn.Linear):
    """As timm has it."""

    def forward(self, x):
        return F.linear(x, self.weight, bias=self.bias)


def viewed(x):
    return x.view(x.size(0), -1)


def reshaped(x):
    return x.reshape([x.shape[0], -1])


def layer_by_layer(ours, x):
    """The packed layers of a program, since a hook wants to see one."""
    hook = next(m for m in ours.modules() if isinstance(m, nhwc_conv.nn.FusedLinear)).register_forward_hook(
        lambda *_: None
    )
    with torch.no_grad(), hook:
        return ours(x)


HEADS = {
    "pool and module": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "function": lambda: lambda x: torch.flatten(F.adaptive_avg_pool2d(x, 1), 1),
    "method": lambda: lambda x: x.mean((2, 3), keepdim=True).flatten(1),
    "view": lambda: lambda x: viewed(F.adaptive_avg_pool2d(x, 1)),
    "reshape": lambda: lambda x: reshaped(F.adaptive_avg_pool2d(x, 1)),
    "mean": lambda: lambda x: x.mean([2, 3]),
    "without a pool": lambda: lambda x: torch.flatten(F.max_pool2d(x, 3), start_dim=1),
}


class Classifier(nn.Module):
    def __init__(self, head, features):
        super().__init__()
        self.a, self.b, self.head = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 20, 3, padding=1),
            HEADS[head](),
        )
        self.first, self.second = Own(features, 16, bias=False), nn.Linear(16, 16)
        self.third = nn.Linear(16, 5)

    def forward(self, x):
        x = F.hardswish(self.first(self.head(self.b(F.relu(self.a(x))))))
        return self.third(F.relu(self.second(x) + x))


@pytest.mark.needs_extension
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("head", HEADS)
def test_classifiers_are_one_program(head, dtype, threads, refusals, monkeypatch):
    torch.manual_seed(0)
    model = Classifier(head, 120 if head == "without a pool" else 20).to(dtype).eval()
    x, reports = torch.randn(2, 3, 7, 9).to(dtype), []
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True, report=reports.append)
    assert len(reports[0].linear) == 3 and sum(isinstance(m, Program) for m in ours.modules()) == 1
    calls = spied(monkeypatch)
    others = x.contiguous(memory_format=torch.channels_last), torch.randn(1, 3, 7, 9).to(dtype)
    for many, mode in ((1, torch.inference_mode), (3, torch.no_grad)):
        threads(many)
        for images in (x, *others):
            with mode():
                out = ours(images)
            if head == "without a pool":  # means have other last bits than aten's
                assert torch.equal(out, layer_by_layer(ours, images)), "the layers do the same"
            tolerance = reports[0].tolerance + torch.finfo(dtype).eps
            torch.testing.assert_close(out, model(images), rtol=0, atol=8 * tolerance)
    assert calls == [5] * 6
    functions = {node.target for node in ours.graph.nodes if node.op in ("call_function", "call_method")}
    assert not functions & {torch.flatten, "flatten", "view", "mean", F.linear, F.adaptive_avg_pool2d}
    theirs = nhwc_conv.revert(ours)
    with torch.no_grad():
        torch.testing.assert_close(theirs(x), ours(x), rtol=1e-2, atol=1e-2)


class Both(nn.Module):
    """A model is converted if something in it may convolve."""

    def __init__(self, mlp):
        super().__init__()
        self.mlp, self.unread = mlp, nn.Conv2d(1, 1, 1)

    def forward(self, x):
        return self.mlp(x)


@pytest.mark.needs_extension
@pytest.mark.parametrize("size", [(16,), (3, 16), (2, 3, 16), (2, 3, 4, 16)], ids=str)
def test_rows_of_any_number_of_dimensions(size, isa, refusals, monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16), nn.Linear(16, 3, bias=False)
    ).eval()
    ours = nhwc_conv.convert(Both(model).eval(), inference=True, example=torch.randn(2, 16), strict=True)
    nhwc_conv.prepack(ours)  # for this instruction set
    calls = spied(monkeypatch)
    x = torch.randn(size)
    with torch.no_grad():
        out = ours(x)
        torch.testing.assert_close(out, model(x))
        assert torch.equal(ours(x.transpose(0, -1).contiguous().transpose(0, -1)), out)
    assert torch.equal(out, layer_by_layer(ours, x)) and calls == [3, 3]


def test_no_rows():
    torch.manual_seed(0)
    ours = nhwc_conv.convert(
        Both(nn.Linear(16, 24)).eval(), inference=True, example=torch.randn(2, 16), strict=True
    )
    model, x = Classifier("mean", 20).eval(), torch.randn(2, 3, 7, 9)
    whole = nhwc_conv.convert(model, inference=True, example=x, strict=True)
    with torch.no_grad():
        assert ours(torch.randn(0, 16)).shape == (0, 24) and whole(x[:0]).shape == (0, 5)


class Mixer(nn.Module):
    """Two layers on pixels, whose sum is with what lies in another order in memory."""

    def __init__(self):
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(3, 16, 1), nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, x):
        y = self.conv(x).permute(0, 2, 3, 1)
        return y.contiguous() + self.second(F.gelu(self.first(y)))


@pytest.mark.needs_extension
@pytest.mark.parametrize("side", [4, 200])
def test_what_is_added_may_lie_in_any_order(side, threads, refusals):
    """Of two images it is copied, and the copy has to last: those of 200 pixels leave the caches between the layers."""
    torch.manual_seed(0)
    model = Mixer().eval()
    reports, x = [], torch.randn(2, 3, side, side)
    ours = nhwc_conv.convert(
        model, inference=True, example=x[..., :4, :4], strict=True, report=reports.append
    )
    layers = [m for m in ours.modules() if isinstance(m, nhwc_conv.nn.FusedLinear)]
    with torch.no_grad():
        for count in (1, 3):
            threads(count)
            y = ours.conv(x).contiguous().permute(0, 2, 3, 1)
            (out,) = Program(2, [(0,), (2, 1)], [1])(
                y, y.transpose(1, 2).contiguous().transpose(1, 2), *layers
            )
            torch.testing.assert_close(out, layers[1](layers[0](y), y))
            torch.testing.assert_close(ours(x), model(x), rtol=1e-4, atol=1e-5)


class Long(nn.Module):
    """A row that is a view of an image, and is read long after it, in a program that uses memory again."""

    def __init__(self, returned):
        super().__init__()
        self.convs, self.last = nn.ModuleList(nn.Conv2d(64, 64, 1) for _ in range(14)), nn.Linear(64, 8)
        self.first, self.returned = nn.Conv2d(64, 64, 2), returned

    def forward(self, x):
        image = self.first(x)
        row = torch.flatten(image, 1)
        for conv in self.convs:
            x = F.relu(conv(x))
        return x, self.last(row), *(dict(row=row, image=image)[name] for name in self.returned)


@pytest.mark.parametrize("returned", [(), ("row",), ("image", "row")])
def test_memory_is_not_used_again_while_a_row_is_read(returned, refusals):
    torch.manual_seed(0)
    model, x, reports = Long(returned).double().eval(), torch.randn(2, 64, 2, 2).double(), []
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True, report=reports.append)
    assert reports[0].memory and not reports[0].fallback
    with torch.no_grad():
        outs = [ours(x) for _ in range(2)]
        for out in outs:
            torch.testing.assert_close(out, model(x), rtol=1e-10, atol=1e-10)
            assert all(t.untyped_storage().nbytes() == t.nbytes for t in out)


class Rows(nn.Module):
    """Rows of numbers that meet as images do."""

    def __init__(self):
        super().__init__()
        self.conv, self.a, self.b = nn.Conv2d(3, 4, 1), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        row = self.conv(x).mean((2, 3))
        a, b = self.a(row), self.b(row)
        return torch.cat([a, b], 1), a * b, a + b, F.relu(a), b[:, :2], row.chunk(2, 1)[1]


def test_rows_are_no_images(refusals):
    torch.manual_seed(0)
    model, x = Rows().eval(), torch.randn(2, 3, 4, 5)
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x))
