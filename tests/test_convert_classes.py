"""convert and revert: what a replaced layer keeps, which subclasses are taken, and the report of it."""

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from nhwc_conv import Conv2d, ConvTranspose2d, convert, revert

X = torch.randn(2, 4, 7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Scaled(nn.Conv2d):
    """Comes to our convolution by super()."""

    def forward(self, x):
        return super().forward(x) * 2

    def extra_repr(self):
        return "by two, " + super().extra_repr()


class Standardised(nn.Conv2d):
    """Comes to it by _conv_forward."""

    def forward(self, x):
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


class Own(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight, self.bias) + 1


class Special(nn.Conv2d):
    pass


class OwnInner(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return F.conv2d(x, weight, bias) + 1


def layer(cls=nn.Conv2d):
    torch.manual_seed(0)
    return cls(4, 8, 3, dtype=torch.float64)


def calls_of_ours(module, x=X):
    """How often nhwc_conv convolves in a call of the module, which is left in training mode."""
    module.eval()  # where spectral_norm leaves its vectors alone
    with torch.profiler.profile() as profile:
        module(x)
    module.train()
    names = "nhwc_conv::conv2d", "aten::convolution_overrideable"
    return sum(e.count for e in profile.key_averages() if e.key in names)


def training_step(model):
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    out = model(X)
    out.pow(2).mean().backward()
    optimiser.step()
    return out


def assert_same_training(ours, theirs):
    for _ in range(2):
        torch.testing.assert_close(training_step(ours), training_step(theirs))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


PARAMETRISED = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "both": lambda m: parametrizations.weight_norm(parametrizations.spectral_norm(m), "bias"),
    "old_weight_norm": nn.utils.weight_norm,
    "old_spectral_norm": nn.utils.spectral_norm,
    "pruned": lambda m: prune.random_unstructured(m, "weight", 0.5),
}


@pytest.mark.parametrize("name", PARAMETRISED)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_parametrisations_stay(name):
    ours, theirs = (nn.Sequential(PARAMETRISED[name](layer()), nn.ReLU()) for _ in range(2))
    ours.load_state_dict(theirs.state_dict())  # spectral_norm and pruning draw numbers
    parameters = dict(ours.named_parameters())
    convert(ours)
    assert isinstance(ours[0], Conv2d) and calls_of_ours(ours) == 1
    assert all(p is parameters[n] for n, p in ours.named_parameters()) and len(parameters) >= 2
    assert parametrize.is_parametrized(ours[0]) == parametrize.is_parametrized(theirs[0])
    assert_same_training(ours, theirs)
    back = revert(ours)
    assert not isinstance(back[0], Conv2d) and calls_of_ours(back) == 0
    assert_same_training(back, theirs)


def test_a_parametrisation_comes_off_either_layer():
    original = parametrizations.weight_norm(layer())
    converted = convert(original)
    expected = original(X)
    parametrize.remove_parametrizations(converted, "weight")
    assert type(converted) is Conv2d and isinstance(converted.weight, nn.Parameter)
    torch.testing.assert_close(converted(X), expected)
    assert torch.equal(original(X), expected) and parametrize.is_parametrized(original)


def with_hooks_of_every_kind(module, hook):
    """The handles. What load_state_dict calls is bound to its module, weakly."""
    kinds = [
        "register_forward_pre_hook", "register_forward_hook", "register_full_backward_pre_hook",
        "register_full_backward_hook", "register_state_dict_pre_hook", "register_state_dict_post_hook",
        "register_load_state_dict_pre_hook", "register_load_state_dict_post_hook",
    ]  # fmt: skip
    return [getattr(module, kind)(hook) for kind in kinds]


def call_every_hook(model, x):
    model(x.clone().requires_grad_()).sum().backward()
    model.load_state_dict(model.state_dict())


def test_hooks_see_the_new_layer():
    seen = []

    def note(m, *_):
        seen.append(m)

    model = nn.Sequential(layer(), nn.ReLU())
    handles = with_hooks_of_every_kind(model[0], note)
    convert(model)
    call_every_hook(model, X)
    assert seen == [model[0]] * len(handles)
    for handle in handles:
        handle.remove()
    call_every_hook(model, X)
    assert len(seen) == len(handles)


@pytest.mark.parametrize("cls", [Scaled, Standardised])
@pytest.mark.parametrize("how", [True, "class", "tuple"])
def test_subclasses_on_request(cls, how):
    theirs = nn.Sequential(layer(cls), nn.ReLU())
    ours = copy.deepcopy(theirs)
    converted = convert(ours, subclasses={"class": cls, "tuple": (OwnInner, cls)}.get(how, how))
    assert isinstance(converted[0], cls) and isinstance(converted[0], Conv2d)
    assert type(converted[0]).__name__ == cls.__name__ and calls_of_ours(converted) == 1
    assert repr(converted) == repr(theirs)
    assert_same_training(converted, theirs)
    saved = io.BytesIO()
    torch.save(converted, saved)
    saved.seek(0)
    copies = copy.deepcopy(converted), pickle.loads(pickle.dumps(converted))
    for other in (*copies, torch.load(saved, weights_only=False)):
        assert type(other[0]) is type(converted[0]) and torch.equal(other(X), converted(X))
    assert type(revert(converted)[0]) is cls
    assert_same_training(converted, theirs)


def test_subclasses_that_are_not_meant():
    model = nn.Sequential(layer(Scaled), layer(Own), layer(OwnInner))
    before = list(model)
    assert all(a is b for a, b in zip(convert(model, subclasses=Special), before, strict=True))
    convert(model, subclasses=True)
    assert [a is b for a, b in zip(model, before, strict=True)] == [False, True, True]


def test_a_parametrised_subclass():
    theirs = parametrizations.weight_norm(layer(Scaled))
    ours = convert(copy.deepcopy(theirs), subclasses=True)
    assert isinstance(ours, Scaled) and calls_of_ours(ours) == 1
    assert_same_training(ours, theirs)
    back = revert(ours)
    assert parametrize.type_before_parametrizations(back) is Scaled
    assert_same_training(back, theirs)


def test_there_and_back():
    model = nn.Sequential(
        layer(), nn.Sequential(nn.Conv2d(8, 8, 1, padding_mode="circular")), nn.Conv1d(1, 1, 1)
    )
    model[1].append(model[1][0])  # one layer in two places
    seen = []
    handle = model[0].register_forward_hook(lambda *_: seen.append(1))
    before = {k: vars(m) for k, m in model.named_modules()}
    names, parameters = repr(model), list(model.parameters())
    revert(convert(model))
    assert repr(model) == names and model[1][0] is model[1][1]
    assert {type(m) for m in model.modules()} == {nn.Sequential, nn.Conv2d, nn.Conv1d}
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert all(vars(m).keys() == before[k].keys() for k, m in model.named_modules())
    model[0](X)
    handle.remove()
    model[0](X)
    assert len(seen) == 1
    assert type(revert(Conv2d(3, 4, 3, algorithm="matmul"))) is nn.Conv2d
    assert type(Conv2d(3, 4, 3).to_torch()) is nn.Conv2d


def test_the_report_names_every_convolution_and_why():
    model = nn.ModuleDict(
        dict(
            plain=layer(), low=layer().to("meta"), parametrised=parametrizations.weight_norm(layer()),
            special=layer(Scaled), own=layer(Own), ours=layer(Conv2d), lazy=nn.LazyConv2d(4, 3), patched=layer(),
            up=nn.ConvTranspose2d(4, 4, 2), volume=nn.Conv3d(4, 4, 2), linear=nn.Linear(2, 2),
        )
    )  # fmt: skip
    model["again"] = model["plain"]
    model["patched"].forward = lambda x: x
    reports = []
    convert(model, report=reports.append)
    (report,) = reports
    assert report.converted == {
        "plain": "", "low": "float64 on meta is computed by aten convolution", "parametrised": "", "up": "",
        "again": "",
    }  # fmt: skip
    assert report.left == {
        "special": "Scaled is a subclass of torch.nn.Conv2d: `subclasses` takes it",
        "own": "Own is a subclass of torch.nn.Conv2d: `subclasses` takes it",
        "ours": "nhwc_conv computes it already",
        "lazy": "a lazy layer without a shape yet: run the model once, then convert it",
        "patched": "its forward was replaced on the instance",
        "volume": "Conv3d: it has no drop-in",
    }
    for path, module in model.items():
        ours = isinstance(module, (Conv2d, ConvTranspose2d))
        assert ours == (path in report.converted or path == "ours")
    text = str(report)
    assert text.startswith("nhwc_conv.convert: 5 converted, 6 left\n") and len(text.splitlines()) == 12
    assert "  left       volume: Conv3d: it has no drop-in" in text.splitlines()
    convert(layer(), report=reports.append)
    assert "  converted  (the model)" in str(reports[1]).splitlines()


class KeepsAList(nn.Module):
    """Calls its layers by a list that is no ModuleList."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)]
        for i, module in enumerate(self.layers):
            self.add_module(str(i), module)
        self.last = nn.Conv2d(3, 3, 1)


def test_the_report_tells_of_layers_that_something_else_holds():
    reports = []
    convert(nn.Sequential(KeepsAList()), report=reports.append)
    text = "0.layers goes on holding the old layer"
    assert reports[0].converted == {"0.0": text, "0.1": text, "0.last": ""}


class Named(nn.Module):
    """One of its layers has the name of a method of tensors."""

    def __init__(self, name):
        super().__init__()
        self.a, self.b, self.name = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1), name
        setattr(self, name, nn.Bilinear(4, 4, 4))

    def forward(self, x):
        a, b = self.a(x), self.b(x)
        layer = getattr(self, self.name)
        return layer(a.permute(0, 2, 3, 1), b.permute(0, 2, 3, 1)) + layer(a, b)


@pytest.mark.parametrize("name", ["add", "mul", "permute", "split", "mean"])
def test_layers_named_as_methods_are(name):
    torch.manual_seed(0)
    model, x = Named(name).double().eval(), torch.randn(2, 4, 4, 4).double()
    ours = convert(model, inference=True, example=x, strict=True)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(ours(x), model(x), rtol=1e-10, atol=1e-10)
