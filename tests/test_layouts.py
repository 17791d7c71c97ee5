"""Any strides of any argument give the right answer, exactly on integers, and no input is written."""

import oracle
import pytest
import torch
from cases import BY_NAME, DTYPES

import nhwc_conv  # noqa: F401

CASES = [
    BY_NAME[name]
    for name in (
        "c8", "c15", "o17", "ow14_viewed", "kernel_1x1", "stride2_1x1", "stride2_padded", "pad_1_0_2_3",
        "dilation2_padded", "groups2", "depthwise_c16", "depthwise_c3_abreast", "depthwise_multiplier3",
        "unbatched", "single_pixels", "stream_one_column", "stream_uneven", "stream_patch",
    )
]  # fmt: skip
OPS = ["im2col", "matmul", "conv2d"]


def transposed(*order):
    """Stored with the dimensions in this order, seen in the original one."""

    def layout(t):
        dims = list(order if t.dim() == len(order) else range(t.dim())[::-1])
        return t.permute(dims).contiguous().permute([dims.index(d) for d in range(t.dim())])

    return layout


def sliced(t):
    """Every second element of every dimension of a larger tensor, from offset 1; the rest is NaN."""
    larger = torch.full([2 * size + 1 for size in t.shape], float("nan"), dtype=t.dtype)
    view = larger[tuple(slice(1, None, 2) for _ in t.shape)]
    return view.copy_(t)


def cut_out(t):
    """An interior block: rows and images further apart than their lengths, channels adjacent."""
    larger = torch.full([size + 3 for size in t.shape], float("nan"), dtype=t.dtype)
    view = larger[tuple(slice(1, 1 + size) for size in t.shape)]
    return view.copy_(t)


def unaligned(t):
    """Contiguous, one element after the start of an allocation."""
    storage = torch.full([t.numel() + 1], float("nan"), dtype=t.dtype)
    return storage[1:].view(t.shape).copy_(t)


def expanded(dim):
    """Stride 0 in one dimension: its values all equal the first."""
    return lambda t: t.narrow(dim, 0, 1).expand(t.shape)


LAYOUTS = {
    "contiguous": lambda t: t,
    "stored_nchw": transposed(0, 3, 1, 2),
    "stored_nwhc": transposed(0, 2, 1, 3),
    "stored_hwcn": transposed(1, 2, 3, 0),
    "stored_reversed": transposed(3, 2, 1, 0),  # of w: OIHW with h and w swapped
    "stored_oihw": transposed(3, 2, 0, 1),
    "sliced": sliced,
    "cut_out": cut_out,
    "unaligned": unaligned,
    "expanded_first": expanded(0),
    "expanded_second": expanded(1),
    "expanded_last": expanded(-1),
    "expanded_all": lambda t: t.flatten()[:1].view([1] * t.dim()).expand(t.shape),
}
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
which = pytest.mark.parametrize("which", ["first", "second", "both"])


def test_layouts_are_what_they_say():
    t = torch.arange(2.0 * 3 * 4 * 5).view(2, 3, 4, 5)
    assert transposed(0, 3, 1, 2)(t).permute(0, 3, 1, 2).is_contiguous()
    assert transposed(3, 2, 0, 1)(t).permute(3, 2, 0, 1).is_contiguous()
    assert sliced(t).stride(-1) == 2 and cut_out(t).stride(-1) == 1
    assert unaligned(t).data_ptr() % 8 == 4
    for name, layout in LAYOUTS.items():
        assert name.startswith("expanded") or torch.equal(layout(t), t), name


def test_channels_last_permuted_is_contiguous_nhwc():
    x, w, _ = BY_NAME["c8"].tensors(torch.float32)
    channels_last = x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    view = channels_last.permute(0, 2, 3, 1)
    assert view.is_contiguous()
    for op in OPS:
        run = getattr(torch.ops.nhwc_conv, op)
        assert torch.equal(run(view, w, None), run(x, w, None))


def place(layout, which, first, second):
    return (
        layout(first) if which != "second" else first,
        layout(second) if which != "first" else second,
    )


def check_forward(op, case, x, w, bias):
    out = getattr(torch.ops.nhwc_conv, op)(x, w, bias, **case.geometry)
    assert out.is_contiguous() and torch.equal(out, oracle.known_forward(case, x, w, bias).to(x.dtype))


def check_input_gradient(case, grad, w, x):
    got = torch.ops.nhwc_conv.conv2d_input(grad, w, case.x[-3:-1], **case.geometry)
    want = oracle.known_gradients(case, x, w, None, grad)[0]
    assert got.is_contiguous() and torch.equal(got, want.to(x.dtype))


def check_weight_gradient(case, grad, x, w):
    got = torch.ops.nhwc_conv.conv2d_weight(grad, x, case.w[:2], **case.geometry)
    want = oracle.known_gradients(case, x, w, None, grad)[1]
    assert got.is_contiguous() and torch.equal(got, want.to(x.dtype))


def integers(case, dtype):
    x, w, bias = case.tensors(dtype, integers=True)
    return x, w, bias, case.grad_like(oracle.known_forward(case, x, w).to(dtype), integers=True)


@pytest.mark.parametrize("op", OPS)
@every_dtype
@which
@every_layout
@every_case
def test_forward(case, layout, which, dtype, op):
    x, w, bias, _ = integers(case, dtype)
    check_forward(op, case, *place(layout, which, x, w), bias)


@every_dtype
@which
@every_layout
@every_case
def test_gradients(case, layout, which, dtype):
    x, w, _, grad = integers(case, dtype)
    check_input_gradient(case, *place(layout, which, grad, w), x)
    check_weight_gradient(case, *place(layout, which, grad, x), w)


@every_layout
@every_case
def test_every_instruction_set(case, layout, isa):
    x, w, bias, grad = integers(case, torch.float32)
    for op in OPS:
        check_forward(op, case, layout(x), layout(w), bias)
    check_input_gradient(case, layout(grad), layout(w), x)
    check_weight_gradient(case, layout(grad), layout(x), w)


@pytest.mark.parametrize("op", OPS)
@every_layout
@every_case
def test_backward(case, layout, op):
    x, w, bias, grad = integers(case, torch.float64)
    x, w, grad = layout(x), layout(w), layout(grad)
    leaves = [t.detach().requires_grad_() for t in (x, w, bias) if t is not None]
    got = torch.autograd.grad(getattr(torch.ops.nhwc_conv, op)(*leaves, **case.geometry), leaves, grad)
    for gradient, expected in zip(got, oracle.known_gradients(case, x, w, bias, grad), strict=True):
        assert torch.equal(gradient, expected)


@pytest.mark.parametrize("op", OPS)
def test_many_weights_of_any_stride(op):
    case = BY_NAME["many_weights_unpadded"]
    x, w, _ = case.tensors(torch.float32, integers=True)
    want = oracle.known_forward(case, x, w).float()
    for layout in ("contiguous", "cut_out", "stored_nwhc", "stored_nchw"):
        assert torch.equal(getattr(torch.ops.nhwc_conv, op)(x, LAYOUTS[layout](w)), want), layout


@pytest.mark.parametrize("op", OPS)
def test_bias_of_any_stride(op):
    case = BY_NAME["o17"]
    x, w, _ = case.tensors(torch.float64)
    for bias in (sliced(torch.randn(17).double()), torch.randn(1).double().expand(17)):
        oracle.check_forward(case, getattr(torch.ops.nhwc_conv, op)(x, w, bias), x, w, bias)


def stored(t):
    """A copy of all its storage: of what lies between the elements, too."""
    return torch.empty(0, dtype=torch.uint8).set_(t.untyped_storage()).clone()


@every_layout
@every_case
def test_inputs_are_not_written(case, layout):
    tensors = [layout(t) for t in case.tensors(torch.float32) if t is not None and t.dim() > 1]
    out = oracle.known_forward(case, *tensors).float()
    tensors.append(layout(case.grad_like(out)))
    before = [stored(t) for t in tensors]
    x, w, grad = tensors
    ops = torch.ops.nhwc_conv
    for op in OPS:
        getattr(ops, op)(x, w, None, **case.geometry)
    ops.conv2d_input(grad, w, case.x[-3:-1], **case.geometry)
    ops.conv2d_weight(grad, x, case.w[:2], **case.geometry)
    assert all(torch.equal(stored(t), b) for t, b in zip(tensors, before, strict=True))


def test_output_aliases_no_input():
    x = torch.randn(1, 4, 5, 1)
    out = torch.ops.nhwc_conv.conv2d(x, torch.ones(1, 1, 1, 1))
    assert torch.equal(out, x) and out.data_ptr() != x.data_ptr()


@pytest.mark.needs_extension
@pytest.mark.parametrize("dtype", DTYPES)
def test_weight_gradients_of_groups_have_the_same_bits(dtype, isa):
    """Of NCHW images other items would suit: their ends show in the last bits."""
    torch.manual_seed(0)
    x, grad = torch.randn(3, 10, 19, 80, dtype=dtype), torch.randn(3, 4, 4, 80, dtype=dtype)
    options = dict(stride=[5, 5], padding=[2, 7, 3, 0], dilation=[3, 2], groups=40)
    results = [
        torch.ops.nhwc_conv.conv2d_weight(g, image, [2, 4], **options)
        for image in (x, transposed(0, 3, 1, 2)(x), transposed(1, 2, 3, 0)(x), cut_out(x), sliced(x))
        for g in (grad, transposed(0, 3, 1, 2)(grad), sliced(grad))
    ]
    assert all(torch.equal(results[0], result) for result in results)


@pytest.mark.parametrize("channels", [17, 33, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_half_steps_over_large_nchw_gradients(channels, dtype, isa):
    """Of which an item stages some channels only, but as many as a vector has."""
    w = torch.randint(-2, 3, (3, 3, 1, channels)).to(dtype)
    grad = torch.randint(-2, 3, (1, 50, 50, channels)).to(dtype)
    planar = grad.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    expected, dx = (
        torch.ops.nhwc_conv.conv2d_input(g, w, [100, 100], [2, 2], [1, 1], [1, 1], channels)
        for g in (grad, planar)
    )
    assert torch.equal(dx, expected)
    exact = torch.nn.functional.conv_transpose2d(
        grad.double().permute(0, 3, 1, 2), w.double().permute(3, 2, 0, 1), None, 2, 1, 1, channels
    )
    assert torch.equal(dx.double(), exact.permute(0, 2, 3, 1))
