"""nhwc_conv.benchmark: what it refuses, by name and before anything is timed."""

import importlib.util

import pytest
import torch
from torch import nn

import nhwc_conv
from nhwc_conv._benchmark import public

QUICK = dict(rounds=1, seconds=0, report=None)


class Unpicklable(nn.Conv2d):
    def __deepcopy__(self, memo):
        raise TypeError("held by a device")


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        (dict(model="resnet"), TypeError, "expected model to be a torch.nn.Module, but got str"),
        (dict(model=nn.Conv2d(3, 4, 3)), ValueError, "model to be in eval mode, but it is in training mode"),
        (dict(model=nn.Sequential().eval().append(nn.Conv2d(3, 4, 3))), ValueError, "but '0' is in training"),
        (dict(model=nn.Conv2d(3, 4, 3, device="meta").eval()), ValueError, "on CPU, but 'weight' is on meta"),
        (dict(model=nn.LazyConv2d(4, 3).eval()), ValueError, "to know its shapes, but 'weight' is lazy"),
        (dict(model=Unpicklable(3, 4, 3).eval()), ValueError, "model to be one .* raises TypeError: held by"),
        (dict(example=None), TypeError, "expected example to be a tensor, .* but got example=None"),
        (dict(example=(1, "a")), TypeError, r"but got example=\(1, 'a'\)"),
        (dict(example=torch.zeros(1, 3, 8, 8, device="meta")), ValueError, r"\[1, 3, 8, 8\] is on meta"),
        (dict(example=torch.full((1, 3, 8, 8), torch.nan)), ValueError, "the example gives no .* result"),
        (dict(compiled="yes"), TypeError, "expected compiled to be True or False, but got compiled='yes'"),
        (dict(layers=1), TypeError, "expected layers to be True or False, but got layers=1"),
        (dict(rounds=2.5), TypeError, "expected rounds to be an int, but got rounds=2.5"),
        (dict(rounds=True), TypeError, "got rounds=True"),
        (dict(rounds=0), ValueError, "expected rounds to be at least 1, but got rounds=0"),
        (dict(seconds="1"), TypeError, "expected seconds to be a number, but got seconds='1'"),
        (dict(seconds=-1.0), ValueError, "seconds to be finite and not negative, but got seconds=-1.0"),
        (dict(seconds=float("nan")), ValueError, "seconds=nan"),
        (dict(seconds=float("inf")), ValueError, "seconds=inf"),
        (dict(picture=3), TypeError, "expected picture to be the path of a file, but got picture=3"),
        (dict(picture="a.txt"), ValueError, "expected picture to end in .*, but got picture='a.txt'"),
        (dict(picture="no/a.png"), ValueError, "the folder of picture to exist, but got picture='no/a.png'"),
        (dict(report="print"), TypeError, "expected report to be a function or None, but got report='print'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_wrong_arguments_are_named(wrong, error, text):
    arguments = dict(model=nn.Conv2d(3, 4, 3).eval(), example=torch.zeros(1, 3, 8, 8), **QUICK)
    with pytest.raises(error, match=text):
        nhwc_conv.benchmark(**{**arguments, **wrong})


def test_what_the_model_raises_on_its_example_is_the_users():
    with pytest.raises(RuntimeError, match="expected input"):
        nhwc_conv.benchmark(nn.Conv2d(3, 4, 3).eval(), torch.zeros(1, 5, 20, 24), **QUICK)


def test_a_picture_without_matplotlib_is_refused_before_anything_is_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(public, "measured", None)
    with pytest.raises(ModuleNotFoundError, match="picture='.*p.png' needs matplotlib"):
        nhwc_conv.benchmark(
            nn.Conv2d(3, 4, 3).eval(), torch.zeros(1, 3, 8, 8), picture=tmp_path / "p.png", **QUICK
        )
