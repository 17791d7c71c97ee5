"""What `convert` takes and refuses: kinds of models and of examples, and what becomes of a model's other methods."""

import copy
import inspect
import pickle
from dataclasses import dataclass

import pytest
import torch
from models import as_trained
from test_convert_inference import Residual, X, trained
from torch import nn

from nhwc_conv import Conv2d, convert
from nhwc_conv._convert.check import Reference


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Residual()

    def forward(self, x, shift=None, *, factor=2.0, negate=False, mode="plain"):
        y = self.block(x) * factor
        if shift is not None:
            y = y + shift
        if mode == "doubled":
            y = y * 2
        return -y if negate else y


EXAMPLES = {
    "keywords": dict(x=X),
    "all": dict(x=X, shift=X.flip(0), factor=torch.tensor(3.0)),
    "positional": (X, X.flip(0)),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_with_keywords(name):
    example, reports = EXAMPLES[name], []
    model = trained(Keywords())
    ours = convert(model, inference=True, example=example, report=reports.append)
    assert not reports[0].untraced and len(reports[0].folded) == 2
    call = (lambda m: m(**example)) if isinstance(example, dict) else (lambda m: m(*example))
    with torch.no_grad():
        torch.testing.assert_close(call(ours), call(model))


def test_defaults_that_nothing_branches_on_stay_free():
    model = trained(Keywords())
    ours = convert(model, inference=True, example=X)
    with torch.no_grad():
        for factor in (1.0, 3, X[:1]):
            torch.testing.assert_close(ours(X, factor=factor), model(X, factor=factor))
    for other in (dict(negate=True), dict(mode="doubled"), dict(shift=X)):
        with pytest.raises(AssertionError, match=next(iter(other))):
            ours(X, **other)


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, batch, *more, scale):
        return {"out": [self.conv(batch["x"]) * scale, *more]}


def test_examples_of_any_structure():
    model = trained(Nested())
    ours = convert(model, inference=True, example=dict(batch={"x": X}, scale=2.0))
    torch.testing.assert_close(ours({"x": X}, scale=2.0), model({"x": X}, scale=2.0))


@dataclass
class Found:
    features: list
    name: str = "found"


class Finding(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = Residual()

    def forward(self, x):
        return [Found([self.body(x)])]


def test_results_in_dataclasses():
    model, reports = trained(Finding()), []
    ours = convert(model, inference=True, example=X, report=reports.append)
    assert not reports[0].untraced and len(reports[0].folded) == 2 and not reports[0].fallback
    torch.testing.assert_close(ours(X)[0].features, model(X)[0].features)
    with pytest.raises(RuntimeError, match="rounding explains"):
        Reference(model, X).check(lambda x: [Found([2 * model.body(x)])])


class Unreadable(nn.Module):
    """Its forward says that it takes other arguments than it does."""

    def __init__(self):
        super().__init__()
        self.body = Residual()

    def forward(self, x):
        return self.body(x)

    forward.__signature__ = inspect.Signature()


def test_a_forward_whose_arguments_cannot_be_told():
    model, reports = trained(Unreadable()), []
    ours = convert(model, inference=True, example=X, report=reports.append)
    assert "cannot be told" in reports[0].untraced[""] and len(reports[0].folded) == 2
    torch.testing.assert_close(ours(X), model(X))


class Network(nn.Module):
    """A model with more than a forward."""

    classes = 5

    def __init__(self):
        super().__init__()
        self.body, self.config = Residual(), {"depth": 2}

    def forward(self, x):
        return self.features(x).flatten(1)

    def features(self, x):
        return self.body(x)

    @property
    def depth(self):
        return self.config["depth"]


def test_other_methods_and_attributes_stay():
    model = trained(Network())
    ours = convert(model, inference=True, example=X)
    assert isinstance(ours, torch.fx.GraphModule)
    for each in (ours, copy.deepcopy(ours)):
        assert (each.classes, each.depth, each.config) == (5, 2, {"depth": 2})
        torch.testing.assert_close(each.features(X), model.body(X))
        with pytest.raises(AttributeError, match="'no_such'"):
            each.no_such  # noqa: B018
        with pytest.raises(AttributeError, match="'bn1'"):
            each.body.bn1  # noqa: B018
    loaded = pickle.loads(pickle.dumps(ours))
    torch.testing.assert_close(loaded(X), ours(X))
    assert len(pickle.dumps(ours)) < 2 * len(pickle.dumps(model))


LAYER = nn.Sequential(nn.Conv2d(4, 4, 3)).eval()
REFUSED = {
    "list": (lambda: [LAYER], "expected model to be a torch.nn.Module, but got list: convert each module in it"),
    "dict": (lambda: {"a": LAYER}, "got dict: convert each module in it"),
    "class": (lambda: nn.Conv2d, "expected model to be a torch.nn.Module, but got type"),
    "traced": (lambda: torch.jit.trace(LAYER, X.float()), "a TopLevelTracedModule is fixed: convert the module"),
    "scripted": (lambda: torch.jit.script(LAYER), "the code of a RecursiveScriptModule is fixed"),
    "compiled": (lambda: torch.compile(LAYER), "what torch.compile returned: convert the module itself"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("inference", [False, True])
def test_what_is_no_module_to_convert(name, inference):
    make, text = REFUSED[name]
    with pytest.raises(TypeError, match=text):
        convert(make(), inference=inference, example=X.float())


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("inference", [False, True])
def test_parts_that_are_fixed_are_left(inference):
    reports = []
    model = nn.Sequential(torch.jit.script(LAYER), nn.Conv2d(4, 4, 1)).eval()
    expected = model(X.float())
    ours = convert(
        model, inference=inference, example=X.float() if inference else None, report=reports.append
    )
    assert list(reports[0].converted) == ["1"]
    assert reports[0].left == {"0.0": "part of a ScriptModule, whose code is fixed"}
    torch.testing.assert_close(ours(X.float()), expected)


def test_parts_that_were_compiled_are_left_for_inference():
    model, reports = trained(nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))), []
    model[0] = torch.compile(model[0], backend="eager")
    ours = convert(model, inference=True, example=X, report=reports.append)
    assert list(reports[0].converted) == ["1"] and type(model[0]._orig_mod) is nn.Conv2d
    assert list(reports[0].left) == ["0._orig_mod"] and ours[0] is model[0]
    torch.testing.assert_close(ours(X), model(X))


def test_times_of_a_model_and_what_to_do(monkeypatch):
    """With an example and without `inference`; the model's statistics stay as they are."""
    torch.manual_seed(0)
    model, reports = as_trained(nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.Dropout())), []
    statistics = model[1].running_mean.clone()
    ours = convert(model, example=X.float(), report=reports.append)
    assert ours is model and model.training and torch.equal(model[1].running_mean, statistics)
    assert type(model[0]) is Conv2d and model[1].num_batches_tracked == 0
    names = ["original", "original, channels_last", "converted", "converted, channels_last"]
    assert list(reports[0].seconds) == names and all(0 < s < 10 for s in reports[0].seconds.values())
    assert f"ms, {names[3]}" in str(reports[0])


@pytest.mark.parametrize(
    ("fastest", "advice"),
    [
        ("original", "the model as it was is 2.00 times as fast on the example: `revert` it"),
        ("original, channels_last", "the same for images, without convert: 2.00 times"),
        ("converted", None),
        ("converted, channels_last", "(memory_format=torch.channels_last), and the same for images: 2.00 times"),
    ],
)  # fmt: skip
def test_advice_from_times(fastest, advice):
    from nhwc_conv._convert.measure import advice as advised

    times = dict.fromkeys(
        ["original", "original, channels_last", "converted", "converted, channels_last"], 2.0
    )
    times[fastest] = 1.0
    assert (advice is None and not advised(times)) or advice in advised(times)[0]


def test_a_model_that_cannot_be_timed():
    class Uncopied(nn.Conv2d):
        def __deepcopy__(self, memo):
            raise ValueError("no copies")

    reports = []
    convert(nn.Sequential(Uncopied(4, 4, 1)), subclasses=True, example=X.float(), report=reports.append)
    assert reports[0].converted == {"0": ""} and reports[0].seconds is None
    assert reports[0].advice == [
        "a copy of the model could not be timed on the example: ValueError: no copies"
    ]
