"""Loading weights into NHWC layers: HWIO or OIHW by shape, by what the state dict says, or by what the caller says."""

import copy
import io
import pickle
from collections import OrderedDict
from threading import Thread

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint import state_dict as distributed

import nhwc_conv
from nhwc_conv import (
    LazyNHWCConv2d,
    LazyNHWCConvTranspose2d,
    NHWCConv2d,
    NHWCConvTranspose2d,
    weight_layout,
)

HWIO = (2, 3, 1, 0)
PAIRS = [(NHWCConv2d, nn.Conv2d), (NHWCConvTranspose2d, nn.ConvTranspose2d)]
pairs = pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=["conv", "transposed"])
LAZY = [(LazyNHWCConv2d, *PAIRS[0]), (LazyNHWCConvTranspose2d, *PAIRS[1])]
lazy_pairs = pytest.mark.parametrize(("lazy", "ours", "theirs"), LAZY, ids=["conv", "transposed"])
# Channels in and out, kernel: shapes that tell, and look nearly alike; the last one does not matter.
TELLING = [(4, 8, 3), (3, 4, 3), (4, 3, 3), (3, 3, (3, 2)), (2, 3, (2, 3)), (3, 2, (2, 3)), (1, 1, 1)]
UNKNOWN = (
    r'cannot tell the layout of "{}": .*size \[3, 3, 3, 3\].*weight_layout\("HWIO"\).*weight_layout\("OIHW"\)'
)


def same(ours, theirs):
    return torch.equal(ours.weight, theirs.weight.permute(HWIO)) and torch.equal(ours.bias, theirs.bias)


def without_metadata(state_dict):
    return dict(state_dict)


def of_version_1(state_dict):
    """As this package's own layers made them before they had a version, and as torch.nn's do."""
    state_dict = OrderedDict(state_dict)
    state_dict._metadata = {"": {"version": 1}}
    return state_dict


@pairs
@pytest.mark.parametrize("shape", TELLING, ids=str)
@pytest.mark.parametrize("strip", [lambda state_dict: state_dict, without_metadata], ids=["whole", "dict"])
@pytest.mark.parametrize("assign", [False, True])
def test_the_shape_tells(ours, theirs, shape, strip, assign):
    layer, source = ours(*shape), theirs(*shape)
    state_dict = strip(source.state_dict())
    assert layer.load_state_dict(state_dict, assign=assign) == ([], [])
    assert same(layer, source) and layer.weight.is_contiguous() and layer.weight.requires_grad
    assert isinstance(layer.weight, nn.Parameter) and layer.weight.is_leaf
    assert state_dict["weight"].shape == source.weight.shape  # the caller's dict stays as it was
    fresh = ours(*shape)
    fresh.load_state_dict(strip(layer.state_dict()), assign=assign)
    assert same(fresh, source)
    with weight_layout("OIHW"):  # what the shape says is not overruled
        fresh.load_state_dict(strip(layer.state_dict()), assign=assign)
    assert same(fresh, source)


@lazy_pairs
@pytest.mark.parametrize("shape", TELLING, ids=str)
def test_the_shape_tells_a_lazy_layer(lazy, ours, theirs, shape):
    source = theirs(*shape)
    full = ours(*shape)
    full.load_state_dict(source.state_dict())
    for state_dict in (source.state_dict(), without_metadata(full.state_dict())):
        layer = lazy(*shape[1:])
        layer.load_state_dict(state_dict)
        assert same(layer, source)
        x = torch.randn(1, 5, 5, shape[0])
        torch.testing.assert_close(layer(x), source(x.movedim(-1, -3)).movedim(-3, -1))
    open_one = lazy(*shape[1:])
    open_one.load_state_dict(lazy(*shape[1:]).state_dict())
    assert open_one.has_uninitialized_params()


@pairs
@pytest.mark.parametrize("strip", [without_metadata, of_version_1])
@pytest.mark.parametrize("assign", [False, True])
def test_what_nobody_tells_is_refused(ours, theirs, strip, assign):
    layer = ours(3, 3, 3)
    before = layer.weight.detach().clone()
    state_dicts = theirs(3, 3, 3).state_dict(), *(strip(cls(3, 3, 3).state_dict()) for cls in (ours, theirs))
    for state_dict in state_dicts:
        with pytest.raises(RuntimeError, match=UNKNOWN.format("weight")):
            layer.load_state_dict(state_dict, strict=False, assign=assign)
        assert torch.equal(layer.weight, before)


@lazy_pairs
def test_what_nobody_tells_a_lazy_layer_is_refused(lazy, ours, theirs):
    source = theirs(3, 3, 3)
    layer = lazy(3, 3)
    with pytest.raises(RuntimeError, match=UNKNOWN.format("weight")):
        layer.load_state_dict(source.state_dict())
    assert isinstance(layer.weight, nn.UninitializedParameter)
    with weight_layout("OIHW"):
        layer.load_state_dict(source.state_dict())
    assert same(layer, source)
    copied = lazy(3, 3)
    copied.load_state_dict(layer.state_dict())
    assert same(copied, source)


@pairs
@pytest.mark.parametrize("assign", [False, True])
def test_the_caller_tells(ours, theirs, assign):
    layer, source = ours(3, 3, 3), theirs(3, 3, 3)
    for state_dict in (source.state_dict(), without_metadata(source.state_dict())):
        with weight_layout("OIHW"):
            layer.load_state_dict(state_dict, assign=assign)
        assert same(layer, source) and layer.weight.is_contiguous() and layer.weight.is_leaf
    for state_dict in (without_metadata(layer.state_dict()), of_version_1(layer.state_dict())):
        loaded = ours(3, 3, 3)
        with weight_layout("HWIO"):
            loaded.load_state_dict(state_dict, assign=assign)
        assert same(loaded, source)
    mixed = layer.state_dict()
    mixed["weight"] = source.weight  # says that it is ours, but is not
    with weight_layout("OIHW"):
        layer.load_state_dict(mixed)
    assert same(layer, source)


def test_layouts_are_those_two_and_of_one_thread():
    with pytest.raises(ValueError, match="layout to be one of .'HWIO', 'OIHW'., but got layout='hwio'"):
        with weight_layout("hwio"):
            pass
    layer, errors = NHWCConv2d(3, 3, 3), []

    def load():
        try:
            layer.load_state_dict(nn.Conv2d(3, 3, 3).state_dict())
        except RuntimeError as error:
            errors.append(error)

    with weight_layout("OIHW"):
        with weight_layout("HWIO"):
            pass
        thread = Thread(target=load)
        thread.start()
        thread.join()
        load()
    assert len(errors) == 1
    load()
    assert len(errors) == 2


def network(conv, transposed):
    """Kernels whose shape does not tell, one with groups, and one whose shape does. It is never run."""
    pair = nn.Sequential(transposed(3, 3, 3), conv(9, 3, 3, groups=3))
    return nn.Sequential(conv(3, 3, 3), nn.BatchNorm2d(3), pair, conv(3, 8, 3))


def convolutions(model):
    return model[0], model[2][0], model[2][1], model[3]


def test_whole_models():
    ours, theirs = network(NHWCConv2d, NHWCConvTranspose2d), network(nn.Conv2d, nn.ConvTranspose2d)
    with pytest.raises(RuntimeError) as error:
        ours.load_state_dict(theirs.state_dict())
    keys = ["0.weight", "2.0.weight", "2.1.weight"]
    assert str(error.value).count("cannot tell") == 3 and all(f'"{key}"' in str(error.value) for key in keys)
    with weight_layout("OIHW"):
        ours.load_state_dict(theirs.state_dict())
    assert all(map(same, convolutions(ours), convolutions(theirs)))
    fresh = network(NHWCConv2d, NHWCConvTranspose2d)
    fresh.load_state_dict(ours.state_dict())
    assert all(map(same, convolutions(fresh), convolutions(theirs)))


def saved(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, saved, lambda d: pickle.loads(pickle.dumps(d))])
def test_our_own_state_dicts_never_raise(way):
    model = network(NHWCConv2d, NHWCConvTranspose2d)
    for wrap in (lambda m: m, nn.DataParallel, lambda m: torch.compile(m, backend="eager")):
        fresh = wrap(network(NHWCConv2d, NHWCConvTranspose2d))
        fresh.load_state_dict(way(wrap(model).state_dict()))
        for one, other in zip(fresh.parameters(), model.parameters(), strict=True):
            assert torch.equal(one, other)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        copied.load_state_dict(model.state_dict())
        model.load_state_dict(copied.state_dict())


def test_the_rest_is_as_torch_does_it():
    layer = NHWCConv2d(4, 8, 3)
    theirs = nn.Conv2d(4, 8, 3).state_dict()
    for wrong, text in (
        (dict(weight=torch.zeros(8, 5, 3, 3)), "size mismatch for weight: copying a param with shape"),
        (dict(weight=torch.zeros(8, 4, 3)), "size mismatch for weight"),
        (dict(weight=[1.0]), "expected torch.Tensor or Tensor-like object"),
        (dict(scale=torch.zeros(3)), r'Unexpected key\(s\) in state_dict: "scale"'),
    ):
        with pytest.raises(RuntimeError, match=text):
            layer.load_state_dict({**theirs, **wrong})
    weight = theirs.pop("weight")
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "weight"'):
        layer.load_state_dict(theirs)
    assert layer.load_state_dict(theirs, strict=False).missing_keys == ["weight"]
    # hooks of the model rename first
    model = nn.Sequential(layer)
    model.register_load_state_dict_pre_hook(
        lambda module, state_dict, *_: state_dict.update(
            {"0.weight": state_dict.pop("old"), "0.bias": theirs["bias"]}
        )
    )
    model.load_state_dict({"old": weight})
    assert torch.equal(layer.weight, weight.permute(HWIO))


def test_parameters_of_other_kinds():
    source = nn.Conv2d(4, 8, 3, dtype=torch.float64)
    layer = NHWCConv2d(4, 8, 3, device="meta")
    layer.weight.requires_grad_(False)
    layer.load_state_dict(source.state_dict(keep_vars=True), assign=True)
    assert same(layer, source) and layer.weight.dtype == torch.float64 and not layer.weight.requires_grad
    layer = NHWCConv2d(4, 8, 3)
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        for assign in (False, True):
            layer.load_state_dict(source.state_dict(), assign=assign)
            torch.testing.assert_close(layer.weight.double(), source.weight.permute(HWIO).float().double())
            with pytest.raises(RuntimeError, match="cannot tell"):
                NHWCConv2d(3, 3, 3).load_state_dict(nn.Conv2d(3, 3, 3).state_dict(), assign=assign)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def test_weights_of_another_size_and_other_parameters():
    """Channels were taken out of one layer; a subclass has a parameter that is no weight."""
    layer, source = NHWCConv2d(4, 8, 3, bias=False), nn.Conv2d(4, 6, 3, bias=False)
    layer.weight = nn.Parameter(layer.weight[..., :6].detach())
    layer.load_state_dict(source.state_dict())
    assert torch.equal(layer.weight, source.weight.permute(HWIO))

    class Scaled(NHWCConv2d):
        def __init__(self, *args):
            super().__init__(*args)
            self.scale = nn.Parameter(torch.randn(3, 3, 3, 3))

    layer, scale = Scaled(3, 8, 3), torch.randn(3, 3, 3, 3)
    layer.load_state_dict({**nn.Conv2d(3, 8, 3).state_dict(), "scale": scale})
    assert torch.equal(layer.scale, scale)


def test_loading_drops_the_packing():
    layer, source = NHWCConv2d(3, 3, 3).eval(), nn.Conv2d(3, 3, 3)
    x = torch.randn(1, 6, 6, 3)
    with torch.no_grad():
        nhwc_conv.prepack(layer)(x)
        with weight_layout("OIHW"):
            layer.load_state_dict(source.state_dict())
        torch.testing.assert_close(layer(x), source(x.movedim(-1, -3)).movedim(-3, -1))


def test_distributed_checkpoints():
    ours, fresh = (network(NHWCConv2d, NHWCConvTranspose2d) for _ in range(2))
    distributed.set_model_state_dict(fresh, distributed.get_model_state_dict(ours))
    assert torch.equal(fresh[0].weight, ours[0].weight)
    theirs = network(nn.Conv2d, nn.ConvTranspose2d)
    with pytest.raises(RuntimeError, match='cannot tell the layout of "0.weight"'):
        distributed.set_model_state_dict(fresh, distributed.get_model_state_dict(theirs))
    with weight_layout("OIHW"):
        distributed.set_model_state_dict(fresh, distributed.get_model_state_dict(theirs))
    assert all(map(same, convolutions(fresh), convolutions(theirs)))
