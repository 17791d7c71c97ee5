"""Products of pairs of bfloat16, on amx_bf16 and avx512_bf16: their own rounding within, and all else as everywhere."""

import oracle
import pytest
import torch
from cases import CASES
from conftest import MULTIPLY_PAIRS, instruction_set
from test_half import OPS, arguments, calls

import nhwc_conv

BF16 = torch.bfloat16


pytestmark = pytest.mark.needs_extension


@pytest.fixture(autouse=True, params=MULTIPLY_PAIRS)
def pairs(request):
    """On a machine that has them."""
    with instruction_set(request.param):
        yield request.param


with_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@with_cases
def test_as_near_as_sums_in_float32(case):
    x, w, bias, grad = arguments(case, BF16)
    result = {name: call(x, w, bias, grad) for name, call in calls(case).items()}
    n, n_input, *_ = oracle.terms(case, grad)
    expected, size = oracle.known_forward(case, x, w, bias), oracle.known_forward(case, *absolute(x, w, bias))
    for name in ("im2col", "matmul", "conv2d", "packed"):
        assert result[name].dtype == BF16
        oracle.assert_close(result[name], expected, size, max(n, 40))  # conv2d may take Winograd's algorithm
    expected, size = (
        oracle.known_gradients(case, *tensors)[0]
        for tensors in ((x, w, bias, grad), absolute(x, w, bias, grad))
    )
    oracle.assert_close(result["input"], expected, size, max(n_input, 40))


def absolute(*tensors):
    return [None if t is None else t.abs() for t in tensors]


@with_cases
def test_exact_on_integers(case):
    x, w, bias = case.tensors(BF16, integers=True)
    grad = case.grad_like(OPS.im2col(x, w, bias, **case.geometry), integers=True)
    with nhwc_conv.flags(winograd=False):
        for name, call in calls(case).items():
            if name != "winograd":
                tensors = [None if t is None else t.float() for t in (x, w, bias, grad)]
                assert torch.equal(call(x, w, bias, grad), call(*tensors).to(BF16)), name


def plan(x, w, **arguments):
    return nhwc_conv.explain(x, w, dtype=BF16, **arguments)


PAIRS = {
    "view": ((1, 56, 56, 64), (1, 1, 64, 256), dict()),
    "pixels": ((1, 32, 32, 3), (7, 7, 3, 64), dict(stride=2)),
    "pieces": ((1, 7, 7, 512), (1, 1, 512, 2048), dict()),
    "planes": ((1, 28, 28, 256), (3, 3, 8, 192), dict(padding=1, groups=32)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_dense_convolutions_multiply_pairs(name, pairs):
    x, w, options = PAIRS[name]
    chosen = plan(x, w, **options)
    runner = "view" if name == "planes" and pairs == "amx_bf16" else name
    assert chosen["pairs"] and runner in (chosen["runner"], chosen["source"])
    assert chosen["reduction"][2] in {(w[2] + 1) // 2, w[1] * ((w[2] + 1) // 2)}


def test_others_do_not():
    for x, w, options in (
        ((1, 14, 14, 32), (3, 3, 1, 32), dict(groups=32)),
        ((1, 32, 32, 64), (3, 3, 64, 3), dict(padding=1)),
        ((1, 20, 20, 1), (3, 3, 1, 16), dict()),
        ((1, 20, 20, 8), (3, 3, 8, 16), dict(dilation=2, algorithm="im2col")),
        ((1, 32, 32, 8), (3, 3, 8, 16), dict(direction="weight_gradient")),
    ):
        assert "pairs" not in plan(x, w, **options)
    assert "pairs" not in nhwc_conv.explain((1, 56, 56, 64), (1, 1, 64, 256), dtype=torch.float16)


def test_winograd_has_to_win_against_pairs(pairs):
    """At 512 channels its transforms take longer than products of pairs, than those of matrices always."""
    few_pixels = (1, 7, 7, 512), (3, 3, 512, 512)
    assert plan(*few_pixels, padding=1)["algorithm"] != "winograd"
    with_matrices = pairs == "amx_bf16"
    many = plan((1, 56, 56, 64), (3, 3, 64, 64), padding=1)
    assert (many["algorithm"] == "winograd") != with_matrices and ("pairs" in many) == with_matrices


def test_named_im2col_is_of_float32_where_borders_would_cut_steps(pairs):
    chosen = plan((1, 20, 20, 64), (3, 3, 64, 64), padding=1, algorithm="im2col")
    assert ("pairs" in chosen) == (pairs != "amx_bf16")


@pytest.mark.parametrize("channels", [*range(8, 80, 6), 513])
@pytest.mark.parametrize("outputs", [4, 9, 16, 17, 40, 64, 130])
def test_every_length_of_a_step_and_width_of_a_tile(channels, outputs):
    torch.manual_seed(0)
    x, w = (torch.randint(-3, 4, size).to(BF16) for size in ((2, 6, 19, channels), (2, 3, channels, outputs)))
    bias = torch.randint(-3, 4, (outputs,)).to(BF16)
    for options in (dict(padding=1), dict(stride=2), dict(padding=1, activation=("clamp", -9.0, 9.0))):
        found = nhwc_conv.conv2d(x, w, bias, **options)
        assert torch.equal(found, nhwc_conv.conv2d(x.float(), w.float(), bias.float(), **options).to(BF16))


@pytest.mark.parametrize("kernel", [1, 3])
def test_neither_batch_nor_threads_nor_packing_show_in_a_bit(kernel, threads):
    """Pieces of the weights, whose depth depends on the batch, end where a step does."""
    torch.manual_seed(0)
    x = torch.randn(24, 7, 7, 1100).to(BF16)
    w = (torch.randn(kernel, kernel, 1100, 1024) / 100).to(BF16)
    padding = kernel // 2
    with nhwc_conv.flags(winograd=False):
        few = nhwc_conv.conv2d(x[:1], w, padding=padding)
        runners = {plan((n, *x.shape[1:]), w.shape, padding=padding)["runner"] for n in (1, 4, 24)}
        assert runners == {"pieces", "view"}
        for count in (1, 2):
            threads(count)
            for n in (1, 4, 24):
                assert torch.equal(nhwc_conv.conv2d(x[:n], w, padding=padding)[:1], few)
            packed = OPS.conv2d_packed(x, OPS.pack_weight(w), w.shape, padding=[padding, padding])
            assert torch.equal(packed[:1], few)


@pytest.mark.parametrize("size", [(40, 37), (3, 64), (64, 3)])
def test_nor_where_rows_of_taps_are_one_and_borders_cut_them(size, threads):
    torch.manual_seed(0)
    x, w = torch.randn(8, *size, 10).to(BF16), torch.randn(7, 7, 10, 40).to(BF16)
    wide = torch.cat((x, x), 3)[..., :10]
    for options in (dict(padding=3), dict(padding=3, stride=2)):
        results = []
        for count in (1, 2, 3):
            threads(count)
            results += [nhwc_conv.conv2d(image, w, **options)[:1] for image in (x[:1], x, wide)]
        assert all(torch.equal(results[0], result) for result in results)


with_named = pytest.mark.parametrize("op", [OPS.im2col, OPS.matmul], ids=["im2col", "matmul"])


@with_named
@pytest.mark.parametrize("channels", [3, 5, 33])
def test_the_value_that_an_odd_number_of_channels_lacks_is_not_read(channels, op):
    torch.manual_seed(0)
    beside = torch.full((2, 9, 8, channels + 1), float("nan"), dtype=BF16)
    x, w = torch.randn(2, 9, 8, channels).to(BF16), torch.randn(3, 3, channels, 20).to(BF16)
    beside[..., :channels] = x
    more = torch.full((3, 3, channels + 1, 20), float("nan"), dtype=BF16)
    more[:, :, :channels] = w
    result = op(beside[..., :channels], more[:, :, :channels])
    assert torch.equal(result, op(x, w)) and result.isfinite().all()


@with_named
@pytest.mark.parametrize("channels", [5, 6, 40])
def test_every_order_of_the_channels_in_memory(channels, op):
    torch.manual_seed(0)
    x, w = torch.randn(2, 20, 10, channels).to(BF16), torch.randn(3, 3, channels, 20).to(BF16)
    expected = op(x, w)
    views = [
        x.movedim(-1, 0).contiguous().movedim(0, -1),
        x.transpose(1, 2).contiguous().transpose(1, 2),
        torch.stack((x, x), -1)[..., 1],
        torch.cat((x, x[..., :1]), -1)[..., : x.shape[-1]],
    ]
    weights = [w, w.permute(3, 2, 0, 1).contiguous().permute(2, 3, 1, 0), torch.stack((w, w), -1)[..., 1]]
    for view in views:
        for weight in weights:
            assert torch.equal(op(view, weight), expected)


def test_nan_and_infinity_stay():
    x, w = torch.zeros(1, 1, 3, 4).to(BF16), torch.eye(4, 8).view(1, 1, 4, 8).to(BF16)
    x[0, 0, 0, 1], x[0, 0, 1, 2] = float("nan"), 3e38
    result = OPS.im2col(x, w * 2)
    assert (
        result[0, 0, 0].isnan().all() and result[0, 0, 1, 2] == float("inf") and (result[0, 0, 2] == 0).all()
    )


def test_packed_pairs_are_of_bfloat16_alone():
    x, w = torch.randn(1, 6, 6, 8), torch.randn(1, 1, 8, 8)
    pairs, floats = OPS.pack_weight(w.to(BF16)), OPS.pack_weight(w.half())
    message = "packed was packed for another weight_size"
    for half, packed in ((x.half(), pairs), (x, pairs), (x.to(BF16), floats)):
        with pytest.raises(RuntimeError, match=message):
            OPS.conv2d_packed(half, packed, w.shape)
    with instruction_set("avx512"):
        with pytest.raises(RuntimeError, match=message):
            OPS.conv2d_packed(x.to(BF16), pairs, w.shape)
        assert pairs.numel() == OPS.pack_weight(w.to(BF16)).numel()
