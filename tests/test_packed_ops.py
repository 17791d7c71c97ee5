"""pack_weight and conv2d_packed: one size on every machine, and results of the weight as it is."""

import contextlib
import copy

import pytest
import torch
from cases import BY_NAME, CASES, DTYPES
from conftest import KNOWN_ISAS, instruction_set
from torch._subclasses.fake_tensor import FakeTensorMode

import nhwc_conv

ops = torch.ops.nhwc_conv
# Of the forms that packed weights have, on some instruction sets others than on the rest.
NAMES = ["notebook", "o17", "depthwise_c16", "groups2", "o3", "winograd_chunks"]
HEADER_BYTES = 128


def case_of(name, dtype=torch.float32):
    case = BY_NAME[name]
    return case, *case.tensors(dtype)


def oihw(w):
    return w.permute(3, 2, 0, 1).contiguous()


def broken(packed):
    """As packed, with weights of NaN."""
    packed = packed.clone()
    packed[HEADER_BYTES // packed.element_size() :] = torch.nan
    return packed


SHAPES = [(3, 3, 8, o) for o in (*range(1, 19), 24, 31, 33, 48, 63)]
SHAPES += [(2, 3, 5, 17), (1, 1, 4, 2), (1, 1, 64, 3), (3, 3, 64, 64), (3, 3, 1, 2**18), (3, 3, 512, 576)]
GROUPED = [
    ((3, 3, 1, 32), 32),
    ((5, 5, 1, 64), 64),
    ((3, 3, 2, 64), 32),
    ((3, 3, 4, 32), 8),
    ((1, 1, 8, 8), 2),
]


PIECES = {  # x, channels and kernel of layers with megabytes of weights, each piece of which meets several tiles
    "rows of tiles": ((1, 14, 14, 1030), 260, 1, {}),
    "images": ((3, 7, 7, 700), 390, 1, {}),
    "taps": ((1, 15, 15, 130), 300, 3, dict(stride=2, padding=1)),
    "groups": ((1, 13, 13, 1030), 1030, 1, dict(groups=2)),
    "large pixels": ((1, 69, 66, 180), 64, 3, dict(stride=4)),
}


@pytest.mark.needs_extension
@pytest.mark.parametrize("name", PIECES)
def test_weights_in_pieces(name, isa, threads):
    """Packed ones are cut elsewhere than those that a call packs; bits are the same, and right."""
    shape, outputs, kernel, arguments = PIECES[name]
    torch.manual_seed(0)
    x, layer = torch.randn(shape), nhwc_conv.NHWCConv2d(shape[-1], outputs, kernel, **arguments).eval()
    packed = nhwc_conv.prepack(copy.deepcopy(layer))
    with torch.no_grad():
        expected = copy.deepcopy(layer).double()(x.double())
        for count in (1, 2):
            threads(count)
            y = packed(x)
            assert torch.equal(y, layer(x))
            assert (y - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.needs_extension
def test_transformed_weights_are_kept_of_few_channels():
    sizes = {c: ops.pack_weight(torch.ones(3, 3, c, c), 1).numel() / (9 * c * c) for c in (128, 256)}
    assert sizes[128] > 5 and sizes[256] < 1.1


@pytest.mark.needs_extension
@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
@pytest.mark.parametrize(("shape", "groups"), [(shape, 1) for shape in SHAPES] + GROUPED)
def test_one_size_for_all_instruction_sets(shape, groups, dtype):
    """What the largest layout takes: there the last elements are weights, or fill up their row."""
    w, instruction_sets = torch.ones(shape, dtype=dtype), nhwc_conv._extension.module.instruction_sets()
    sizes, unused, with_winograd = set(), [], set()
    for name in instruction_sets:
        with instruction_set(name):
            packed = ops.pack_weight(w, groups, False)
            sizes.add(packed.numel())
            unused.append(packed.numel() - 1 - packed.nonzero().max().item())
            with_winograd.add(ops.pack_weight(w, groups).numel())
    assert len(sizes) == len(with_winograd) == 1
    assert min(unused) < 32 or len(instruction_sets) < len(KNOWN_ISAS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("device", ["meta", "fake"])
def test_the_fake_knows_the_size(case, device):
    _, w, _ = case.tensors(torch.float32)
    for winograd in (False, True):
        real = ops.pack_weight(w, case.groups, winograd)
        with FakeTensorMode() if device == "fake" else contextlib.nullcontext():
            fake = torch.empty(w.shape, device="cpu" if device == "fake" else "meta")
            packed = ops.pack_weight(fake, case.groups, winograd)
            transposed = torch.empty([w.shape[d] for d in (3, 2, 0, 1)], device=fake.device)
            assert (
                packed.shape == ops.pack_weight(transposed, case.groups, winograd, True).shape == real.shape
            )
    with pytest.raises(RuntimeError, match="groups=1000"):
        ops.pack_weight(torch.empty(w.shape, device="meta"), 1000)


@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
@pytest.mark.parametrize("name", NAMES)
def test_either_order_of_the_weight(name, dtype, isa):
    case, x, w, bias = case_of(name, dtype)
    packed = ops.pack_weight(w, case.groups)
    transposed = oihw(w)
    same = ops.pack_weight(transposed, case.groups, True, True)
    header = HEADER_BYTES // packed.element_size()
    assert torch.equal(packed[header:], same[header:])
    results = [
        ops.conv2d_packed(x, p, w.shape, bias, **case.geometry, weight=weight, oihw=weight is transposed)
        for p, weight in ((packed, None), (packed, w), (same, transposed))
    ]
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.needs_extension
@pytest.mark.parametrize("is_oihw", [False, True])
def test_the_packing_is_used_as_long_as_it_is_of_the_weight(is_oihw, isa):
    case, x, w, bias = case_of("o17")
    weight = oihw(w) if is_oihw else w
    packed = broken(ops.pack_weight(weight, case.groups, True, is_oihw))

    def call(weight):
        return ops.conv2d_packed(x, packed, w.shape, bias, **case.geometry, weight=weight, oihw=is_oihw)

    assert call(weight).isnan().all() and call(weight.view(weight.shape)).isnan().all()
    with torch.inference_mode():
        assert call(weight).isnan().all()
    expected = ops.conv2d(x, w, bias, **case.geometry)
    assert torch.equal(call(weight.clone()), expected)
    flipped = weight.detach()
    flipped.data = weight.data.mT.contiguous().mT  # other strides, counted nowhere
    assert torch.equal(call(flipped), expected)
    weight.mul_(2)
    assert not call(weight).isnan().any()


@pytest.mark.parametrize("change", ["written", "another", "other_strides", "inference"])
@pytest.mark.parametrize("name", NAMES)
def test_a_stale_packing_is_not_used(name, change, isa):
    case, x, w, bias = case_of(name)
    weight = w.clone()
    if change == "inference":
        with torch.inference_mode():
            weight = w.clone()
    packed = ops.pack_weight(weight, case.groups)
    if change == "another":
        weight = weight * 2
    elif change == "other_strides":
        weight.data = weight.data.flip(2).transpose(0, 1).contiguous().transpose(0, 1)
    else:
        with torch.inference_mode(change == "inference"):
            weight.mul_(2)
    result = ops.conv2d_packed(x, packed, w.shape, bias, **case.geometry, weight=weight)
    assert torch.equal(result, ops.conv2d(x, weight, bias, **case.geometry))


@pytest.mark.needs_extension
@pytest.mark.parametrize("name", NAMES)
def test_packed_for_another_instruction_set(name):
    instruction_sets = nhwc_conv._extension.module.instruction_sets()
    case, x, w, bias = case_of(name)
    for packing in instruction_sets:
        with instruction_set(packing):
            packed = ops.pack_weight(w, case.groups)
        for running in instruction_sets:
            with instruction_set(running):
                result = ops.conv2d_packed(x, packed, w.shape, bias, **case.geometry, weight=w)
                torch.testing.assert_close(result, ops.conv2d(x, w, bias, **case.geometry))


@pytest.mark.needs_extension
def test_without_the_weight_another_instruction_set_raises():
    first, *others = nhwc_conv._extension.module.instruction_sets()
    if not others:
        pytest.skip("this machine has one instruction set")
    case, x, w, _ = case_of("winograd_chunks")  # which each set lays out in columns of its own
    with instruction_set(first):
        packed = ops.pack_weight(w, case.groups)
    with (
        instruction_set(others[-1]),
        pytest.raises(RuntimeError, match="instruction set or dtype"),
    ):
        ops.conv2d_packed(x, packed, w.shape, **case.geometry)


def test_any_buffer_will_do_beside_the_weight():
    case, x, w, _ = case_of("notebook")
    expected = ops.conv2d(x, w, **case.geometry)
    for packed in (w.new_empty(0), w.new_zeros(7), torch.full((10**5,), torch.nan)[::3], w):
        for device in ("cpu", "meta"):
            a, b, c = (t.to(device) for t in (x, packed, w))
            result = ops.conv2d_packed(a, b, w.shape, None, **case.geometry, weight=c)
            assert result.shape == expected.shape
            assert device == "meta" or torch.equal(result, expected)


@pytest.mark.parametrize("op", ["pack_weight", "conv2d_packed"])
def test_opcheck(op):
    case, x, w, bias = case_of("notebook")
    if op == "pack_weight":
        # Where the weight lies is in the header: not the same in two calls, and no part of what is checked.
        checks = "test_schema", "test_faketensor", "test_autograd_registration"
        torch.library.opcheck(ops.pack_weight.default, (oihw(w), 1, True, True), test_utils=checks)
        return
    arguments = x, ops.pack_weight(w), list(w.shape), bias
    torch.library.opcheck(ops.conv2d_packed.default, arguments, case.geometry)
    torch.library.opcheck(ops.conv2d_packed.default, arguments, {**case.geometry, "weight": w})


def test_header_is_integers_in_any_dtype():
    """Sizes and counts that float32 has not the digits for."""
    if not nhwc_conv._extension.available:
        pytest.skip("the header of the extension")
    w = torch.ones(1, 1, 3, 2**24 + 1).as_strided((1, 1, 1, 2**24 + 1), (1, 1, 1, 1))
    packed = ops.pack_weight(w)
    header = packed[: HEADER_BYTES // 4].view(torch.int64)
    assert header[0] == packed.numel() and header[5] == 2**24 + 1
