"""convert(subclasses=...): classes that compute F.conv2d themselves, after work of their own."""

import copy
import math
import pickle
import threading

import pytest
import torch
import torch.nn.functional as F
from test_convert_classes import X, assert_same_training, calls_of_ours
from torch import nn
from torch.nn.functional import conv2d
from torch.nn.utils.parametrizations import weight_norm

from nhwc_conv import Conv2d, convert, revert


def padded(x, kernel, stride, dilation, before=False):
    """By TensorFlow's rule for SAME, whose odd pixel goes to the end, or to the beginning."""
    sides = []
    for size, k, s, d in zip(x.shape[:-3:-1], kernel[::-1], stride[::-1], dilation[::-1], strict=True):
        total = max((math.ceil(size / s) - 1) * s + d * (k - 1) + 1 - size, 0)
        small = total // 2
        sides += [total - small, small] if before else [small, total - small]
    return F.pad(x, sides)


def conv2d_same(x, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    x = padded(x, weight.shape[-2:], stride, dilation)
    return F.conv2d(x, weight, bias, stride, (0, 0), dilation, groups)


class Conv2dSame(nn.Conv2d):
    """Its padding depends on the size of its input."""

    def forward(self, x):
        return conv2d_same(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class AlsoScaled(nn.Conv2d):
    """Does more than its function."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = 2.0

    def forward(self, x):
        w = self.weight * self.scale
        return conv2d_same(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


def lower():
    """A class of the same code, whose function of that name does something else."""

    def other(x, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
        x = padded(x, weight.shape[-2:], stride, dilation, before=True)
        return F.conv2d(x, weight, bias, stride, (0, 0), dilation, groups)

    code = compile("def forward(self, x):\n    return conv2d_same(x, self.weight, self.bias, self.stride, "
                   "self.padding, self.dilation, self.groups)", "lower", "exec")  # fmt: skip
    scope = dict(conv2d_same=other)
    exec(code, scope)
    return type("SameLower", (nn.Conv2d,), dict(forward=scope["forward"]))


class StdConv2d(nn.Conv2d):
    """Its weight is standardised over each output's."""

    def standardised(self, scale=None):
        flat = self.weight.reshape(1, self.out_channels, -1)
        return F.batch_norm(flat, None, None, scale, training=True, momentum=0.0, eps=1e-6).view_as(
            self.weight
        )

    def forward(self, x):
        weight = self.standardised()
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ScaledStdConv2d(StdConv2d):
    """With a gain of its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.gain, self.scale = nn.Parameter(torch.full((self.out_channels, 1, 1, 1), 0.7)), 0.3
        self.to(self.weight.dtype)

    def forward(self, x):
        weight = self.standardised((self.gain * self.scale).view(-1))
        x = padded(x, self.kernel_size, self.stride, self.dilation)
        return F.conv2d(x, weight, bias=self.bias, stride=self.stride, groups=self.groups)


class ByAnotherName(nn.Conv2d):
    def forward(self, x):
        return conv2d(x, self.weight) + torch.conv2d(input=x, weight=self.weight, bias=self.bias)


class Inner(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return F.conv2d(x, weight * 2, bias, self.stride)


ITS_OWN = "its own forward, with F.conv2d by nhwc_conv"
CLASSES = {
    "same": (Conv2dSame, 1, "with SAME padding"),
    "same and more": (AlsoScaled, 1, ITS_OWN),
    "same by another rule": (lower(), 1, ITS_OWN),
    "standardised": (StdConv2d, 1, ITS_OWN),
    "scaled and padded": (ScaledStdConv2d, 1, ITS_OWN),
    "other names": (ByAnotherName, 2, ITS_OWN),
    "inner": (Inner, 1, ITS_OWN),
}


def layer(cls, stride=1, **options):
    torch.manual_seed(0)
    return cls(4, 8, (3, 2), stride, dtype=torch.float64, **options)


@pytest.mark.parametrize("name", CLASSES)
def test_taken_by_name(name):
    cls, calls, how = CLASSES[name]
    for stride in (1, (2, 3)):
        if stride != 1 and name == "other names":
            continue
        theirs, reports = nn.Sequential(layer(cls, stride), nn.ReLU()), []
        ours = convert(copy.deepcopy(theirs), subclasses=cls, report=reports.append)
        assert reports[0].converted == {"0": how} and not reports[0].left
        assert isinstance(ours[0], cls) and isinstance(ours[0], Conv2d) and repr(ours) == repr(theirs)
        assert calls_of_ours(ours) == calls and calls_of_ours(theirs) == 0
        for x in (X, X[:, :, :6, :5], X[0], X.contiguous(memory_format=torch.channels_last)):
            out, expected = ours(x), theirs(x)
            torch.testing.assert_close(out, expected)
            assert out.stride() == expected.stride()
        assert_same_training(ours, theirs)
        if cls.__name__ in globals():
            for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
                assert type(other[0]) is type(ours[0]) and torch.equal(other(X), ours(X))
        assert type(revert(ours)[0]) is cls
        assert_same_training(ours, theirs)


@pytest.mark.parametrize("name", CLASSES)
def test_only_by_name(name):
    cls, model, reports = CLASSES[name][0], nn.Sequential(layer(CLASSES[name][0])), []
    for subclasses in (False, Conv2dSame if cls is not Conv2dSame else StdConv2d, True):
        convert(model, subclasses=subclasses, report=reports.append)
        assert type(model[0]) is cls and not reports[-1].converted
    assert reports[0].left == {"0": f"{cls.__name__} is a subclass of torch.nn.Conv2d: `subclasses` takes it"}
    assert reports[2].left == {
        "0": f"{cls.__name__} computes its convolution itself: `subclasses` takes it by name"
    }


@pytest.mark.parametrize("name", CLASSES)
def test_compiled_and_traced(name):
    torch._dynamo.reset()
    theirs = layer(CLASSES[name][0])
    ours = convert(copy.deepcopy(theirs), subclasses=type(theirs))
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    for function in (compiled, torch.fx.symbolic_trace(ours) if name == "standardised" else compiled):
        torch.testing.assert_close(function(X), theirs(X))
        assert calls_of_ours(ours) == CLASSES[name][1]
        found, expected = (torch.autograd.grad(f(X).square().sum(), m.weight) for f, m in
                           ((function, ours), (theirs, theirs)))  # fmt: skip
        torch.testing.assert_close(found, expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours.float()(X.float()).dtype == torch.bfloat16


def test_what_the_kernel_pads_nobody_else_does():
    ours = convert(layer(Conv2dSame, 2), subclasses=Conv2dSame)
    with torch.profiler.profile() as profile:
        ours(X)
    assert "aten::constant_pad_nd" not in {e.key for e in profile.key_averages()}


@pytest.mark.parametrize("cls", [StdConv2d, Conv2dSame])
def test_the_algorithm_of_the_layer(cls):
    ours = convert(layer(cls), subclasses=cls)
    ours.algorithm = "winograd"
    with pytest.raises(RuntimeError, match="winograd"):  # kernels of 3x3 only
        ours(X)


def test_parametrised():
    theirs = weight_norm(layer(StdConv2d))
    ours = convert(copy.deepcopy(theirs), subclasses=StdConv2d)
    assert calls_of_ours(ours) == 1
    assert_same_training(ours, theirs)


class Slow(nn.Conv2d):
    """Stops between its beginning and its convolution, in which another thread convolves."""

    def forward(self, x):
        self.reached.set()
        assert self.go_on.wait(60)
        return F.conv2d(x, self.weight)


def test_other_threads_and_what_follows_have_torchs():
    ours = layer(Slow)
    ours.reached, ours.go_on = threading.Event(), threading.Event()
    ours = convert(nn.Sequential(ours), subclasses=Slow)[0]
    results = []
    thread = threading.Thread(target=lambda: results.append(ours(X)))
    thread.start()
    assert ours.reached.wait(60)
    assert calls_of_ours(layer(nn.Conv2d)) == 0
    ours.go_on.set()
    thread.join()
    torch.testing.assert_close(results, [F.conv2d(X, ours.weight)])
    assert calls_of_ours(ours) == 1 and calls_of_ours(layer(nn.Conv2d)) == 0
