"""convert(inference=True) keeps images in channels_last between the input and the results of NCHW models."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nhwc_conv
from nhwc_conv._convert import memory

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
KEPT = "channels_last from the first convolutions to the results"


class Network(nn.Module):
    """Two convolutions, and something between them."""

    def __init__(self, between=F.relu, last=lambda x: x):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 1)
        self.between, self.last = between, last

    def forward(self, x):
        return self.last(self.second(self.between(self.first(x * 2))))


def made(*arguments, channels_last=False):
    torch.manual_seed(0)
    model, x, reports = Network(*arguments).eval(), torch.randn(2, 3, 8, 6), []
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True, report=reports.append)
    return model, ours, x, reports[0]


def between(model, x):
    """Whether what the second layer gets is in channels_last."""
    seen = []
    handle = model.second.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        out = model(x)
    handle.remove()
    (image,) = seen
    return image.is_contiguous(memory_format=torch.channels_last), out


def test_images_are_channels_last_inside_and_results_as_they_were():
    model, ours, x, report = made()
    assert report.memory == KEPT and KEPT in str(report) and not report.advice
    for copied in (ours, copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        for image in (x, x[:1], x[..., :5], x.contiguous(memory_format=torch.channels_last)):
            kept, out = between(copied, image)
            with torch.no_grad():
                expected = model(image)
            assert kept and out.stride() == expected.stride()
            torch.testing.assert_close(out, expected)
    with torch.no_grad():
        torch.testing.assert_close(ours(x[0]), model(x[0]))


def test_an_image_is_copied_once():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x):
            return torch.cat([self.a(x), self.b(x)], 1)

    model, x = Branches().eval(), torch.randn(2, 3, 6, 8)
    ours = nhwc_conv.convert(model, inference=True, example=x, strict=True)
    assert [n.target for n in ours.graph.nodes].count(memory.channels_last) == 1 and len(
        ours.program.steps
    ) == 3
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x))


def test_several_results():
    model, ours, x, report = made(F.relu, lambda y: {"a": [y, y.sum()], "b": y.flatten(1)})
    assert report.memory == KEPT
    with torch.no_grad():
        found, expected = ours(x), model(x)
    torch.testing.assert_close(found, expected)
    assert found["a"][0].is_contiguous()


def hooked(module):
    """Whose hook reads memory."""
    module.register_forward_hook(lambda _, __, out: out * len(out.stride()))
    return module


class Strides(nn.Module):
    """Computes by memory what torch.nn computes by place."""

    def forward(self, x):
        return x.view(x.shape[0], -1).view(x.shape)


@pytest.mark.parametrize(
    "reads",
    [
        lambda x: x.view(x.shape[0], -1).view(x.shape),
        lambda x: x * len(x.stride()),
        lambda x: torch.as_strided(x, x.shape, (288, 48, 6, 1)),
        Strides(),
        hooked(nn.ReLU()),
    ],
)
def test_whoever_reads_memory_gets_what_they_had(reads):
    model, ours, x, report = made(reads)
    kept, out = between(ours, x)
    assert not kept and not report.memory
    assert any("NCHW" in advice for advice in report.advice)
    with torch.no_grad():
        torch.testing.assert_close(out, model(x))


class Drawing(nn.Module):
    """Draws numbers in the order of memory."""

    def forward(self, x):
        torch.manual_seed(0)
        return F.dropout(x)


def test_what_depends_on_memory_unseen_keeps_it():
    model, ours, x, report = made(Drawing())
    assert report.fallback.startswith("images stay in NCHW memory, since ") and not report.memory
    with torch.no_grad():
        torch.testing.assert_close(ours(x), model(x))


def test_revert_forgets_it():
    model, ours, x, _ = made()
    with torch.no_grad():
        reverted = nhwc_conv.revert(ours)
        assert not between(reverted, x)[0]
        torch.testing.assert_close(torch.jit.script(reverted)(x), model(x))


def test_models_in_channels_last_are_left_alone():
    model, ours, x, report = made(channels_last=True)
    assert not report.memory
    kept, out = between(ours, x)
    with torch.no_grad():
        assert kept and out.stride() == model(x).stride()


def test_input_stays_the_callers():
    """What is written in place before the first convolution is the caller's tensor, as ever."""

    class InPlace(Network):
        def forward(self, x):
            return super().forward(x.add_(1))

    torch.manual_seed(0)
    model, x = InPlace().eval(), torch.randn(1, 3, 5, 5)
    ours = nhwc_conv.convert(model, inference=True, example=x.clone(), strict=True)
    given = x.clone()
    with torch.no_grad():
        ours(given)
    assert torch.equal(given, x + 1)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_transforms_compile_and_tracing():
    model, ours, x, _ = made()
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(torch.func.vmap(ours)(x[:, None])[:, 0], expected)
        torch.testing.assert_close(torch.jit.trace(ours, x)(x), expected)
        torch.testing.assert_close(torch.compile(ours, fullgraph=True, backend="eager")(x), expected)
        torch.testing.assert_close(torch.export.export(ours, (x,)).module()(x), expected)
    again = nhwc_conv.convert(ours, inference=True, example=x, strict=True)
    with torch.no_grad():
        torch.testing.assert_close(again(x), expected)
