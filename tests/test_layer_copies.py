"""Layers made of other layers: what compile() left behind, subclasses that do more, arrays of any layout."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from test_convert_classes import call_every_hook, with_hooks_of_every_kind
from torch import nn

import nhwc_conv

X = torch.ones(1, 3, 5, 5)


def compiled(layer):
    layer.compile(backend="eager")
    layer(X)
    return layer


def zeroed(module):
    module.load_state_dict({k: v * 0 for k, v in module.state_dict().items()}, assign=True)
    return module


def test_copies_of_a_compiled_layer_have_their_own_weights():
    layer = compiled(nhwc_conv.Conv2d(3, 4, 3))
    expected = layer(X)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert zeroed(copied)(X).abs().max() == 0
    torch.testing.assert_close(layer(X), expected)


def test_a_converted_layer_forgets_that_it_was_compiled():
    model = nhwc_conv.convert(nn.Sequential(compiled(nn.Conv2d(3, 4, 3))))
    assert isinstance(model[0], nhwc_conv.Conv2d) and zeroed(model)(X).abs().max() == 0
    assert zeroed(nhwc_conv.revert(model))(X).abs().max() == 0


@pytest.mark.parametrize("traced", [True, False])
def test_the_copy_for_inference_has_hooks_of_its_own(traced):
    """Those of the original go along; what is registered or removed later is of one of them alone."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nhwc_conv.Conv2d(4, 4, 3)).eval()
    originals = [*model] if traced else [*model, model]  # torch.fx does not trace a model with hooks
    seen = []
    handles = []
    for module in originals:
        handles += with_hooks_of_every_kind(module, lambda m, *_: seen.append(m))
    copied = nhwc_conv.convert(model, inference=True, example=X)
    copies = [copied.get_submodule("0"), copied.get_submodule("1"), copied][: len(originals)]
    assert model[1]._packed is None and copies[1]._packed is not None

    def seen_by(model):
        seen.clear()
        call_every_hook(model, X)
        return set(seen)

    assert seen_by(copied) == {*copies} and seen_by(model) == {*originals} and not {*copies} & {*originals}
    for module in copies:
        with_hooks_of_every_kind(module, lambda *_: seen.append("of the copy"))
    for handle in handles:
        handle.remove()
    assert seen_by(copied) == {*copies, "of the copy"} and not seen_by(model)


def test_a_fused_layer_keeps_its_algorithm():
    layer = nhwc_conv.Conv2d(3, 4, 3, algorithm="im2col")
    for follows in ([nn.ReLU()], [nn.BatchNorm2d(4), nn.ReLU()]):
        model = nn.Sequential(layer, *follows).eval()
        (fused,) = nhwc_conv.convert(model, inference=True, example=X).children()
        assert isinstance(fused, nhwc_conv.nn.FusedConv2d) and fused.algorithm == "im2col"
    assert nhwc_conv.Conv2d.from_torch(layer).algorithm == "im2col"
    assert nhwc_conv.Conv2d.from_torch(layer, algorithm="auto").algorithm == "auto"


class Doubled(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize("layer", [nhwc_conv.Conv2d, nhwc_conv.NHWCConv2d])
@pytest.mark.parametrize(
    "module",
    [nn.ConvTranspose2d(4, 4, 3), nn.Linear(3, 4), nn.LazyConv2d(4, 3), Doubled(3, 4, 3),
     nhwc_conv.nn.FusedConv2d(3, 4, 3, activation="relu")],
    ids=lambda module: type(module).__name__,
)  # fmt: skip
def test_what_is_no_plain_convolution_is_refused(layer, module):
    with pytest.raises(ValueError, match=f"but got {type(module).__name__}"):
        layer.from_torch(module)


@pytest.mark.parametrize("layer", [nhwc_conv.Conv2d, nhwc_conv.NHWCConv2d])
@pytest.mark.parametrize("name", ["forward", "_conv_forward"])
def test_a_forward_of_the_instance_is_not_lost(layer, name):
    module = nn.Conv2d(3, 4, 3)
    setattr(module, name, lambda *args: None)
    with pytest.raises(ValueError, match=f"but got Conv2d with a {name} of its own"):
        layer.from_torch(module)


class DoubledOurs(nhwc_conv.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "module", [DoubledOurs(3, 4, 3), nhwc_conv.LazyConv2d(4, 3)], ids=lambda m: type(m).__name__
)
def test_what_is_no_plain_layer_of_ours_does_not_become_one_of_torch(module):
    with pytest.raises(ValueError, match=f"but got {type(module).__name__}"):
        module.to_torch()


def test_an_unknown_algorithm_is_refused():
    with pytest.raises(ValueError, match="algorithm='nonsense'"):
        nhwc_conv.Conv2d.from_torch(nn.Conv2d(3, 4, 3), "nonsense")


def test_a_fused_relu_comes_back_as_a_module():
    layer = nhwc_conv.nn.FusedConv2d(3, 4, 3, activation="relu")
    model = layer.to_torch()
    assert [type(module) for module in model.children()] == [nn.Conv2d, nn.ReLU]
    torch.testing.assert_close(model(X), layer(X))
    assert model.training and not any(module.training for module in layer.eval().to_torch().modules())


def test_signatures_are_those_of_torch():
    for ours, theirs in ((nhwc_conv.Conv2d, nn.Conv2d), (nhwc_conv.LazyConv2d, nn.LazyConv2d)):
        parameters = dict(inspect.signature(ours).parameters)
        assert parameters.pop("algorithm").kind is inspect.Parameter.KEYWORD_ONLY
        expected = inspect.signature(theirs).parameters
        assert [(p.name, p.default) for p in parameters.values()] == [
            (p.name, p.default) for p in expected.values()
        ]


def test_skip_init():
    layer = nn.utils.skip_init(nhwc_conv.Conv2d, 3, 4, 3, dtype=torch.float64)
    assert layer.weight.shape == (4, 3, 3, 3) and layer.weight.dtype == torch.float64


def test_kernels_in_any_order_of_memory():
    kernel = np.random.default_rng(0).standard_normal((3, 2, 3, 4))
    for array in (kernel[::-1, ::-1], kernel.astype(">f8")[::-1, ::-1], kernel.T[::-1].T):
        got = nhwc_conv.NHWCConv2d.from_kernel(array).weight.detach().numpy()
        np.testing.assert_array_equal(got, array)
    with pytest.raises(
        ValueError, match="expected kernel to be of a floating point dtype, but got torch.int64"
    ):
        nhwc_conv.NHWCConv2d.from_kernel(np.ones((3, 3, 2, 4), np.int64))
    with pytest.raises(ValueError, match="expected kernel to be of a dtype that PyTorch has, but got <U1"):
        nhwc_conv.NHWCConv2d.from_kernel(np.full((3, 3, 2, 4), "x"))
    layer = nhwc_conv.NHWCConv2d.from_kernel(kernel, np.zeros(4, np.int64))  # bias: in the kernel's dtype
    assert layer.bias.dtype == torch.float64
