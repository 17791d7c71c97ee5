"""Reparametrised HWIO weights: weight_norm and spectral_norm against those of the torch.nn layers, and loading."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from nhwc_conv import NHWCConv2d, NHWCConvTranspose2d, weight_layout

# Dimension of the weight of torch.nn's layer -> of ours.
DIM = {0: 3, 1: 2}
LAYERS = [(NHWCConv2d, nn.Conv2d), (NHWCConvTranspose2d, nn.ConvTranspose2d)]
layers = pytest.mark.parametrize(("ours", "theirs"), LAYERS, ids=["conv", "transposed"])
X = torch.randn(2, 6, 7, 4, dtype=torch.float64)


def pair(ours, theirs, groups=1):
    made = []
    for cls in (ours, theirs):
        torch.manual_seed(1)
        made.append(cls(4, 6, 3, groups=groups, dtype=torch.float64))
    return made


def same(layer, reference):
    torch.testing.assert_close(layer.weight, reference.weight.permute(2, 3, 1, 0))
    torch.testing.assert_close(layer(X), reference(X.movedim(-1, -3)).movedim(-3, -1))


@layers
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("groups", [1, 2])
def test_weight_norm(ours, theirs, dim, groups):
    layer, reference = pair(ours, theirs, groups)
    parametrizations.weight_norm(layer, dim=DIM.get(dim))
    parametrizations.weight_norm(reference, dim=dim)
    for module in (layer, reference):
        g = module.parametrizations.weight.original0
        with torch.no_grad():
            g.mul_(torch.arange(1, g.numel() + 1).view_as(g))
    same(layer, reference)
    for module, x in ((layer, X), (reference, X.movedim(-1, -3))):
        module(x).pow(2).sum().backward()
    grads = [module.parametrizations.weight.original1.grad for module in (layer, reference)]
    torch.testing.assert_close(grads[0], grads[1].permute(2, 3, 1, 0))


@layers
@pytest.mark.parametrize("dim", [0, 1])
def test_spectral_norm(ours, theirs, dim):
    """torch's default is 0, and 1 for its transposed layers. Iterated until both have found the largest value."""
    layer, reference = pair(ours, theirs)
    parametrizations.spectral_norm(layer, n_power_iterations=2000, dim=DIM[dim])
    parametrizations.spectral_norm(reference, n_power_iterations=2000, dim=dim)
    same(layer, reference)
    matrix = layer.weight.movedim(DIM[dim], 0).flatten(1)
    torch.testing.assert_close(torch.linalg.matrix_norm(matrix, 2), torch.ones((), dtype=torch.float64))


def test_the_defaults_of_torch():
    for (_, theirs), dim in zip(LAYERS, (0, 1), strict=True):
        for norm, expected in ((parametrizations.weight_norm, 0), (parametrizations.spectral_norm, dim)):
            assert norm(theirs(4, 6, 3)).parametrizations.weight[0].dim == expected


@layers
@pytest.mark.parametrize("dim", [dict(), dict(dim=1)], ids=["default", "1"])
@pytest.mark.parametrize(
    "norm",
    [parametrizations.weight_norm, parametrizations.spectral_norm,
     pytest.param(nn.utils.weight_norm, marks=pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")),
     nn.utils.spectral_norm],
    ids=["weight_norm", "spectral_norm", "weight_norm_hook", "spectral_norm_hook"],
)  # fmt: skip
def test_norms_over_rows_of_kernels_are_refused(ours, theirs, norm, dim):
    layer = norm(ours(4, 6, 3), **dim)
    text = rf"expected dim of {norm.__name__} to be 3 or 2, .*but got dim={dim.get('dim', 0)}; .* is 3 here"
    with pytest.raises(ValueError, match=text):
        layer(X.float())
    right = norm(ours(4, 6, 3), dim=3)
    assert right(X.float()).shape[-1] == 6


def test_other_parametrisations_and_hooks_pass():
    layer = NHWCConv2d(4, 6, 3)
    layer.register_forward_pre_hook(lambda module, args: None)
    parametrize.register_parametrization(layer, "bias", nn.Identity())
    parametrize.register_parametrization(layer, "weight", nn.Tanh())
    assert layer(X.float()).shape == (2, 4, 5, 6)


def test_compiled():
    layer = parametrizations.weight_norm(NHWCConv2d(4, 6, 3), dim=3)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(X.float()), layer(X.float()))


@pytest.mark.parametrize(
    "reparametrise",
    [lambda layer, dim: parametrizations.weight_norm(layer, dim=dim),
     lambda layer, dim: prune.random_unstructured(layer, "weight", 0.5)],
    ids=["weight_norm", "prune"],
)  # fmt: skip
def test_reparametrised_layers_take_their_own(reparametrise):
    x = torch.randn(1, 6, 6, 3)
    for shape in ((3, 3, 3), (3, 8, 3)):
        ours, fresh = (reparametrise(NHWCConv2d(*shape, bias=False), 3) for _ in range(2))
        fresh.load_state_dict(ours.state_dict())
        torch.testing.assert_close(fresh(x), ours(x))
        with weight_layout("HWIO"):
            fresh.load_state_dict(dict(ours.state_dict()))
        theirs = reparametrise(nn.Conv2d(*shape, bias=False), 0)
        with weight_layout("OIHW"), pytest.raises(RuntimeError, match="load it before the layer is reparam"):
            fresh.load_state_dict(theirs.state_dict())
        torch.testing.assert_close(fresh(x), ours(x))
    with pytest.raises(RuntimeError, match="cannot tell the layout"):
        reparametrise(NHWCConv2d(3, 3, 3), 3).load_state_dict(
            reparametrise(nn.Conv2d(3, 3, 3), 0).state_dict()
        )


def test_weight_norm_of_old_checkpoints():
    """A hook of torch renames their keys after ours has looked."""
    layer = parametrizations.weight_norm(NHWCConv2d(3, 3, 3), dim=3)
    state_dict = layer.state_dict()
    state_dict["weight_g"] = state_dict.pop("parametrizations.weight.original0")
    state_dict["weight_v"] = state_dict.pop("parametrizations.weight.original1")
    parametrizations.weight_norm(NHWCConv2d(3, 3, 3), dim=3).load_state_dict(state_dict)
    with pytest.raises(RuntimeError, match='cannot tell the layout of "weight_v"'):
        layer.load_state_dict(dict(state_dict))
