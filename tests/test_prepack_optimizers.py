"""Prepacked layers and optimisers: fused ones write to weights without counting it."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from test_prepack import LAYERS, assert_current, direct, make
from torch import nn

import nhwc_conv

OPTIMIZERS = {
    "SGD": torch.optim.SGD,
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "Adagrad": torch.optim.Adagrad,
}
HOW = ["fused", "foreach", "plain"]


def optimizer_of(layer, name, how):
    return OPTIMIZERS[name](layer.parameters(), lr=0.5, fused=how == "fused", foreach=how == "foreach")


@pytest.fixture(params=LAYERS)
def packed(request):
    """In eval mode, in which nothing but a hook could drop the packing; called and its gradient recorded."""
    layer, x = make(request.param)
    nhwc_conv.prepack(layer)
    assert_current(layer, x)
    layer(x).sum().backward()
    assert not layer._packed.is_stale()
    return layer, x


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_seen(packed, name, how):
    layer, x = packed
    before = direct(layer, x).detach()
    optimizer_of(layer, name, how).step()
    assert not torch.allclose(direct(layer, x), before)
    assert_current(layer, x)


def test_the_model_of_the_report():
    torch.manual_seed(0)
    model, x = nn.Sequential(nhwc_conv.Conv2d(8, 8, 3)).eval(), torch.randn(2, 8, 9, 9)
    nhwc_conv.prepack(model)
    with torch.no_grad():
        model(x)
    model(x).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1, fused=True).step()
    with torch.no_grad():
        torch.testing.assert_close(model(x), F.conv2d(x, model[0].weight, model[0].bias))


def test_gradients_that_a_hook_of_the_optimizer_frees(packed):
    layer, x = packed
    optimizer = optimizer_of(layer, "SGD", "fused")
    optimizer.register_step_post_hook(lambda optimizer, *_: optimizer.zero_grad())
    optimizer.step()
    assert layer.weight.grad is None
    assert_current(layer, x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning:torch.*")
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_a_compiled_step(packed, name):
    torch._dynamo.reset()
    layer, x = packed
    optimizer = optimizer_of(layer, name, "fused")
    for _ in range(2):
        torch.compile(optimizer.step, backend="aot_eager")()
        assert_current(layer, x)


def test_weights_of_others_are_left_alone(packed):
    """Neither those that nobody packed, nor packed ones that the step did not write to."""
    layer, x = packed
    other = nn.Conv2d(3, 3, 1)
    other(torch.ones(1, 3, 2, 2)).sum().backward()
    frozen, _ = make("nhwc")
    nhwc_conv.prepack(frozen).requires_grad_(False)
    versions = other.weight._version, frozen.weight._version, layer.weight._version
    optimizer_of(nn.ModuleList([other, frozen, layer]), "SGD", "fused").step()
    now = other.weight._version, frozen.weight._version, layer.weight._version
    assert now == (*versions[:2], versions[2] + 1)
    assert not frozen._packed.is_stale()


def test_averaged_weights(packed):
    layer, x = packed
    averaged = torch.optim.swa_utils.AveragedModel(layer)
    nhwc_conv.prepack(averaged.eval())
    assert_current(averaged.module, x)
    with torch.no_grad():
        layer.weight.mul_(2)
    averaged.update_parameters(layer)
    averaged.update_parameters(layer)
    assert_current(averaged.module, x)


HOOKS = """
import torch, nhwc_conv
from torch.optim.optimizer import _global_optimizer_post_hooks as hooks
layers = [nhwc_conv.NHWCConv2d(3, 3, 1).eval() for _ in range(2)]
print(len(hooks))
for layer in layers:
    nhwc_conv.prepack(layer)
print(len(hooks))
"""


def test_optimizers_are_watched_from_the_first_packing_on():
    done = subprocess.run(
        [sys.executable, "-c", HOOKS], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.stdout.split() == ["0", "1"], done.stderr
