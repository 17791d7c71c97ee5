"""Prepacked weights: the same results, and never those of an old weight where PyTorch can see the change."""

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import cases
import pytest
import torch
import torch.nn.functional as F
from cases import CASES, DTYPES
from conftest import instruction_set
from torch.nn.utils.parametrizations import weight_norm

import nhwc_conv

LAYERS = ["nhwc", "drop_in"]


def make(kind, dtype=torch.float64):
    torch.manual_seed(0)
    if kind == "nhwc":
        layer = nhwc_conv.NHWCConv2d(5, 18, 3, padding=1, dtype=dtype)
        return layer.eval(), torch.randn(2, 6, 7, 5, dtype=dtype)
    return nhwc_conv.Conv2d(5, 18, 3, padding=1, dtype=dtype).eval(), torch.randn(2, 5, 6, 7, dtype=dtype)


def direct(layer, x):
    """The layer's result by F.conv2d, from the weight that it has now."""
    if isinstance(layer, nhwc_conv.Conv2d):
        return F.conv2d(x, layer.weight.contiguous(), layer.bias, padding=1)
    w = layer.weight.permute(3, 2, 0, 1).contiguous()
    return F.conv2d(x.permute(0, 3, 1, 2), w, layer.bias, padding=1).permute(0, 2, 3, 1)


def assert_current(layer, x):
    with torch.no_grad():
        torch.testing.assert_close(layer(x), direct(layer, x))


@pytest.fixture(params=LAYERS)
def packed(request):
    layer, x = make(request.param)
    nhwc_conv.prepack(layer)
    assert layer._packed is not None
    assert_current(layer, x)
    return layer, x


@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_packed_op_equals_conv2d_on_integers(case, dtype, isa):
    x, w, bias = case.tensors(dtype, integers=True)
    with nhwc_conv.flags(winograd=False):
        packed = torch.ops.nhwc_conv.pack_weight(w, case.groups)
        result = torch.ops.nhwc_conv.conv2d_packed(x, packed, w.shape, bias, **case.geometry)
        assert torch.equal(result, torch.ops.nhwc_conv.conv2d(x, w, bias, **case.geometry))


def test_the_packed_weight_is_what_runs(packed):
    layer, x = packed
    layer._packed.tensor[16:] = 0
    with torch.no_grad():
        bias = layer.bias if isinstance(layer, nhwc_conv.NHWCConv2d) else layer.bias[:, None, None]
        torch.testing.assert_close(layer(x), bias.expand_as(direct(layer, x)))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_weight_whose_writes_nobody_counts_is_left_as_it_is(kind):
    with torch.inference_mode():
        layer, x = make(kind)
        nhwc_conv.prepack(layer)
        assert layer._packed is None
        layer.weight.mul_(2)
    assert_current(layer, x)


def test_calls_that_record_gradients_use_the_weight(packed):
    layer, x = packed
    layer(x).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


def double(layer):
    with torch.no_grad():
        layer.weight.mul_(2)


def replace_data(layer):
    layer.weight.data = layer.weight.data * 3


def replace_data_twice(layer):
    """The allocator gives the second what the first has left, unless somebody holds it."""
    for _ in range(2):
        layer.weight.data = layer.weight.data * 3


def transpose_data(layer):
    kernel = (2, 3) if isinstance(layer, nhwc_conv.Conv2d) else (0, 1)
    layer.weight.data = layer.weight.data.transpose(*kernel)


def replace_parameter(layer):
    layer.weight = torch.nn.Parameter(layer.weight.detach() + 1)


def load(assign):
    def change(layer):
        state = {k: v.clone() * 5 for k, v in layer.state_dict().items()}
        layer.load_state_dict(state, assign=assign)
        assert layer._packed is None

    return change


def train_with_fused_optimiser(layer):
    layer.train()
    assert layer._packed is None
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.5, fused=True)
    shape = (2, 5, 6, 7) if isinstance(layer, nhwc_conv.Conv2d) else (2, 6, 7, 5)
    layer(torch.ones(shape, dtype=torch.float64)).sum().backward()
    optimiser.step()
    layer.eval()


CHANGES = {
    "in_place": double,
    "data": replace_data,
    "data_twice": replace_data_twice,
    "data_transposed": transpose_data,
    "parameter": replace_parameter,
    "load": load(False),
    "load_assign": load(True),
    "fused_optimiser": train_with_fused_optimiser,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_changed_weight_is_seen(packed, change):
    layer, x = packed
    before = direct(layer, x).detach()
    change(layer)
    assert not torch.allclose(direct(layer, x), before)
    assert_current(layer, x)
    nhwc_conv.prepack(layer)
    assert_current(layer, x)


def test_a_changed_algorithm_is_seen():
    layer = nhwc_conv.prepack(nhwc_conv.Conv2d(64, 64, 3, padding=1).eval())
    x = torch.randn(1, 64, 28, 28)
    with torch.no_grad():
        layer.algorithm = "im2col"
        by_name = layer(x)
        layer._packed = None
        assert torch.equal(by_name, layer(x))


def test_torch_fx_traces_a_packed_model(packed):
    layer, x = packed
    with torch.no_grad():
        torch.testing.assert_close(torch.fx.symbolic_trace(torch.nn.Sequential(layer))(x), layer(x))


def test_weight_norm(packed):
    layer, x = packed
    normed = weight_norm(layer, dim=3 if isinstance(layer, nhwc_conv.NHWCConv2d) else 0)
    nhwc_conv.prepack(normed)
    assert_current(normed, x)
    with torch.no_grad():
        normed.parametrizations.weight.original0.mul_(2)
    assert_current(normed, x)


def test_to_another_dtype_and_back(packed):
    layer, x = packed
    layer.float()
    assert layer._packed is None
    assert_current(layer, x.float())
    assert_current(nhwc_conv.prepack(layer), x.float())


def test_copies_have_no_packing(packed):
    layer, x = packed
    saved = io.BytesIO()
    torch.save(layer, saved)
    saved.seek(0)
    copies = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(saved, weights_only=False)
    for other in copies:
        assert other._packed is None
        double(other)
        assert_current(other, x)
    assert layer._packed is not None
    assert_current(layer, x)


def test_inside_compile(packed):
    layer, x = packed
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), direct(layer, x))
        double(layer)
        torch.testing.assert_close(compiled(x), direct(layer, x))


def test_two_threads_at_once(packed):
    layer, x = packed
    double(layer)  # so that both of them find it stale
    expected = direct(layer, x).detach()

    def call(_):
        with torch.no_grad():
            return layer(x)

    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(call, range(50)):
            torch.testing.assert_close(result, expected)


@pytest.mark.needs_extension
def test_another_instruction_set_packs_anew(packed):
    from nhwc_conv._extension import module as extension

    layer, x = packed
    for isa in extension.instruction_sets():
        with instruction_set(isa):
            assert_current(layer, x)


@pytest.mark.needs_extension
def test_foreign_packing_is_refused():
    case = cases.BY_NAME["notebook"]
    x, w, _ = case.tensors(torch.float32)
    packed = torch.ops.nhwc_conv.pack_weight(w)
    for size in ((3, 3, 16, 8), (3, 3, 8, 17), (1, 9, 8, 16)):
        with pytest.raises(RuntimeError):
            torch.ops.nhwc_conv.conv2d_packed(x, packed, size)


def test_training_mode_raises():
    layer, _ = make("nhwc")
    with pytest.raises(ValueError, match="training mode"):
        nhwc_conv.prepack(torch.nn.Sequential(layer.train()))


def test_packed_ops_have_no_silent_gradient():
    x = torch.ones(1, 3, 3, 4, requires_grad=True)
    w = torch.ones(1, 1, 4, 4)
    packed = torch.ops.nhwc_conv.pack_weight(w)
    with pytest.raises(RuntimeError, match="no gradient"):
        torch.ops.nhwc_conv.conv2d_packed(x, packed, w.shape)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int32])
def test_other_dtypes_cannot_be_packed(dtype):
    with pytest.raises(RuntimeError, match="float32, float64, bfloat16 or float16 to be packed"):
        torch.ops.nhwc_conv.pack_weight(torch.ones(1, 1, 4, 4, dtype=dtype))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_fake_takes_what_the_op_takes(case, isa):
    x, w, bias = case.tensors(torch.float32)
    packed = torch.ops.nhwc_conv.pack_weight(w, case.groups)
    arguments = [None if t is None else t.to("meta") for t in (x, packed, bias)]

    def call(x, packed, bias):
        return torch.ops.nhwc_conv.conv2d_packed(x, packed, w.shape, bias, **case.geometry)

    assert call(*arguments).shape == call(x, packed, bias).shape


def test_what_a_fake_knows_of_foreign_packings():
    x, packed = torch.ones(1, 4, 4, 8), torch.ops.nhwc_conv.pack_weight(torch.ones(2, 2, 8, 16))
    for wrong, size in (
        (packed, (2, 2, 8, 400)),
        (packed[:-300], (2, 2, 8, 16)),
        (packed[None], (2, 2, 8, 16)),
        (packed.to(torch.bfloat16), (2, 2, 8, 16)),
    ):
        messages = []
        for device in ("cpu", "meta"):
            with pytest.raises(RuntimeError) as error:
                torch.ops.nhwc_conv.conv2d_packed(x.to(device), wrong.to(device), size)
            messages.append(str(error.value))
        assert messages[0] == messages[1] or wrong.dtype != packed.dtype
