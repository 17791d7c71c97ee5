"""The promises of the design: own kernels, the same bits, two algorithms, bounded workspace."""

import re

import pytest
import torch
import torch.nn.functional as F
from case import COMPUTED
from cases import BY_NAME, CASES, LAYERS
from memory import allocated
from oracle import same_bits
from torch.profiler import ProfilerActivity, profile

import nhwc_conv  # noqa: F401

pytestmark = pytest.mark.needs_extension
OPS = ["im2col", "matmul", "conv2d"]
PASSES = ["forward", "input_gradient", "weight_gradient"]
every_op = pytest.mark.parametrize("op", OPS)
every_dtype = pytest.mark.parametrize("dtype", COMPUTED, ids=["f32", "f64", "bf16", "f16"])
FOREIGN = re.compile(
    # convolution_overrideable on CPU is our own.
    r"aten::.*(conv(?!olution_(backward_)?overrideable)|mm|mkldnn|matmul|linear|einsum|dot|mv|xnnpack)|mkldnn|onednn",
    re.IGNORECASE,
)

# Large enough to be shared out among threads, and with every way that x reaches the kernel.
SPLIT = [
    *(case for case in LAYERS if len(case.x) == 4),
    *(
        BY_NAME[name]
        for name in (
            "o1", "o2", "o3", "o17", "c1", "c3", "c17_o1", "c3_o19", "ow17_padded", "long_row", "kernel_7x7",
            "stride2_5x5", "stride2_kernel2", "groups64_page_apart",
            "pad_over_kernel_stride2", "dilation2_padded", "groups32_of_4", "planes_of_8", "planes_of_4",
            "depthwise_multiplier3",
            "same_lower_4x3_s2x2", "many_weights_3x3", "many_weights_1x1", "many_weights_patches",
            "depthwise_15x15_over_6",
        )
    ),
]  # fmt: skip
every_split = pytest.mark.parametrize("case", SPLIT, ids=lambda case: case.name)


def forward(op, case, x, w, bias=None):
    return getattr(torch.ops.nhwc_conv, op)(x, w, bias, **case.geometry)


def input_gradient(case, grad, w):
    return torch.ops.nhwc_conv.conv2d_input(grad, w, case.x[-3:-1], **case.geometry)


def weight_gradient(case, grad, x):
    return torch.ops.nhwc_conv.conv2d_weight(grad, x, case.w[:2], **case.geometry)


def events(function):
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        function()
    return {event.key for event in profiler.key_averages()}


def test_the_profiler_would_see_foreign_kernels():
    x, w = torch.randn(1, 4, 8, 8, requires_grad=True), torch.randn(4, 4, 3, 3)
    for function in (
        lambda: F.conv2d(x, w).sum().backward(),
        lambda: x @ x,
        lambda: torch.addmm(x[0, 0], *x[0, :2]),
    ):
        assert any(FOREIGN.search(name) for name in events(function))


@every_op
@every_dtype
def test_no_foreign_kernel_runs(op, dtype):
    def run():
        for case in CASES:
            leaves = [t.requires_grad_() for t in case.tensors(dtype) if t is not None]
            out = forward(op, case, *leaves)
            out.backward(torch.ones_like(out))

    seen = events(run)
    assert f"nhwc_conv::{op}" in seen
    assert not [name for name in seen if FOREIGN.search(name)]


@pytest.mark.parametrize("op", [*OPS, "conv2d_input", "conv2d_weight"])
def test_the_cpu_kernel_is_the_extension(op):
    """The Python algorithm is registered for other keys only; NumPy would not show in a profile."""
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"nhwc_conv::{op}", "CPU")


@every_dtype
@every_op
@every_split
def test_forward_bits_depend_on_neither_threads_nor_batch(case, op, dtype, threads, isa):
    _, w, bias = case.tensors(dtype)
    batch = torch.randn(8, *case.x[1:], dtype=dtype)
    threads(1)
    alone = torch.cat([forward(op, case, image[None], w, bias) for image in batch])
    for count in (1, 2, 3, 8):
        threads(count)
        assert same_bits(forward(op, case, batch, w, bias), alone)
        assert same_bits(forward(op, case, batch[2], w, bias), alone[2])


@pytest.mark.parametrize("op", ["im2col", "matmul"])
def test_the_sign_of_a_zero_depends_on_neither_threads_nor_batch(op, threads, isa):
    """Where no tap of a later block of the reduction meets the image, that block must not add 0.0 to -0.0."""
    x, w, bias = torch.zeros(8, 7, 7, 512), -torch.ones(3, 3, 512, 128), torch.full((128,), -0.0)
    results = []
    for count, n in ((1, 8), (1, 1), (2, 1), (2, 8)):
        threads(count)
        results.append(getattr(torch.ops.nhwc_conv, op)(x[:n], w, bias, padding=2)[:1])
    assert all(same_bits(result, results[0]) for result in results)
    assert torch.signbit(results[0]).any()


@every_dtype
@every_split
def test_input_gradient_bits_depend_on_neither_threads_nor_batch(case, dtype, threads, isa):
    x, w, _ = case.tensors(dtype)
    batch = torch.randn(8, *forward("im2col", case, x, w).shape[1:], dtype=dtype)
    threads(1)
    alone = torch.cat([input_gradient(case, grad[None], w) for grad in batch])
    for count in (1, 2, 3, 8):
        threads(count)
        assert same_bits(input_gradient(case, batch, w), alone)
        assert same_bits(input_gradient(case, batch[2], w), alone[2])


@every_dtype
@every_split
def test_weight_gradient_bits_depend_on_neither_threads_nor_run(case, dtype, threads, isa):
    w = case.tensors(dtype)[1]
    x = torch.randn(5, *case.x[1:], dtype=dtype)
    grad = torch.randn_like(forward("im2col", case, x, w))
    threads(1)
    first = weight_gradient(case, grad, x)
    for count in (1, 2, 3, 8, 1):
        threads(count)
        assert same_bits(weight_gradient(case, grad, x), first)


def layouts(t):
    """The same values in other places: dimensions in reverse order, and spaces between pixels, rows and images."""
    yield t.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    larger = torch.full([size + 1 for size in t.shape], float("nan"), dtype=t.dtype)
    yield larger[tuple(slice(0, size) for size in t.shape)].copy_(t)


@every_op
@every_split
def test_forward_bits_do_not_depend_on_grad_mode_or_layout(case, op, isa):
    x, w, bias = case.tensors(torch.float32)
    expected = forward(op, case, x, w, bias)
    assert same_bits(forward(op, case, x, w.clone().requires_grad_(), bias).detach(), expected)
    with torch.inference_mode():
        assert same_bits(forward(op, case, x, w, bias), expected)
    for other in layouts(x):
        assert same_bits(forward(op, case, other, w, bias), expected)
    for other in layouts(w):
        assert same_bits(forward(op, case, x, other, bias), expected)


@pytest.mark.parametrize("kernel, stride", [(3, 1), (5, 1), (3, 2)])
def test_bits_do_not_depend_on_the_size_of_the_image(kernel, stride, isa):
    # Tiles of large images ask for memory ahead.
    x, w = torch.randn(1, 190, 101, 117), torch.randn(kernel, kernel, 1, 117)
    whole, top = (
        torch.ops.nhwc_conv.conv2d(image, w, None, stride, kernel // 2, 1, 117)
        for image in (x, x[:, :40].clone())
    )
    rows = 40 // stride - kernel
    assert same_bits(whole[:, :rows], top[:, :rows])


@every_split
def test_input_gradient_bits_do_not_depend_on_layout(case, isa):
    x, w, _ = case.tensors(torch.float32)
    grad = case.grad_like(forward("im2col", case, x, w))
    expected = input_gradient(case, grad, w)
    for other in layouts(grad):
        assert same_bits(input_gradient(case, other, w), expected)
    for other in layouts(w):
        assert same_bits(input_gradient(case, grad, other), expected)


@every_split
def test_weight_gradient_bits_do_not_depend_on_layout(case, isa):
    x, w, _ = case.tensors(torch.float32)
    grad = case.grad_like(forward("im2col", case, x, w))
    expected = weight_gradient(case, grad, x)
    for other_x, other_grad in zip(layouts(x), layouts(grad), strict=True):
        assert same_bits(weight_gradient(case, grad, other_x), expected)
        assert same_bits(weight_gradient(case, other_grad, x), expected)
        assert same_bits(weight_gradient(case, other_grad, other_x), expected)


def explain(pass_, algorithm, case, dtype="float32", batch=None):
    from nhwc_conv._extension import module as extension

    def pair(value):
        return [value, value] if isinstance(value, int) else list(value)

    x = list(case.x) if batch is None else [batch, *case.x[-3:]]
    return extension.explain(
        pass_, algorithm, dtype, x, list(case.w), pair(case.stride), pair(case.padding), pair(case.dilation),
        case.groups, case.auto_pad,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "source", "im2col", "matmul"),
    [
        ("notebook", "view", (3, 1, 24), (3, 3, 8)),
        ("stride2", "view", (3, 1, 12), (3, 3, 4)),
        ("kernel_7x7", "view", (7, 1, 21), (7, 7, 3)),
        ("dilation2", "fields", (3, 1, 9), (3, 3, 3)),
        ("groups3_wide", "pixels", (3, 1, 12), (3, 3, 4)),
    ],
)
def test_im2col_and_matmul_are_two_algorithms(name, source, im2col, matmul, isa):
    case = BY_NAME[name]
    plan = explain("forward", "im2col", case)
    assert plan["algorithm"] == "im2col" and plan["source"] == source
    assert tuple(plan["reduction"]) == im2col
    plan = explain("forward", "matmul", case)
    assert plan["algorithm"] == "matmul" and tuple(plan["reduction"]) == matmul


def test_every_plan_reduces_over_the_whole_kernel():
    for case in CASES:
        kh, kw, c_per_group, _ = case.w
        for algorithm in ("im2col", "matmul"):
            plan = explain("forward", algorithm, case)
            i, j, k = plan["reduction"]
            assert i * j * k == kh * kw * c_per_group, case.name
            if algorithm == "matmul":
                grouped = plan["algorithm"] == "lanewise" and (i, j, k) == (kh, c_per_group, kw)
                turned = case.x[2] == kw == 1 and (i, j, k) == (kw, kh, c_per_group)  # to images of one row
                assert grouped or turned or (i, j, k) == (kh, kw, c_per_group), case.name


def test_auto_chooses_a_known_algorithm():
    chosen = {explain("forward", "auto", case)["algorithm"] for case in CASES}
    assert chosen <= {"im2col", "matmul", "winograd", "lanewise"}
    assert explain("forward", "auto", BY_NAME["depthwise_28"])["algorithm"] == "lanewise"


def test_plan_names_the_instruction_set(isa):
    for pass_ in PASSES:
        plan = explain(pass_, "auto", BY_NAME["notebook"])
        assert plan["instruction_set"] == isa and all(size > 0 for size in plan["tile"])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_split
def test_workspace_holds_no_batch(case, dtype):
    """A whole-batch buffer would grow with N. What N may decide, up to a bound far below these: if weights
    are reused enough to be packed, and how many partial sums a weight gradient has.
    """
    for pass_ in PASSES:
        plans = [explain(pass_, "auto", case, dtype, batch) for batch in (256, 4096)]
        for part in ("workspace_shared", "workspace_per_thread"):
            assert plans[0][part] == plans[1][part], (pass_, part)


@every_dtype
@every_split
def test_workspace_is_what_the_plan_says(case, dtype, threads):
    x, w, _ = case.tensors(dtype)
    grad = case.grad_like(forward("conv2d", case, x, w))
    calls = {
        "forward": (lambda: forward("conv2d", case, x, w), grad),
        "input_gradient": (lambda: input_gradient(case, grad, w), x),
        "weight_gradient": (lambda: weight_gradient(case, grad, x), w),
    }
    for count in (1, 2):
        threads(count)
        for pass_, (call, result) in calls.items():
            plan = explain(pass_, "auto", case, str(dtype).removeprefix("torch."))
            limit = plan["workspace_shared"] + count * plan["workspace_per_thread"]
            assert 0 < allocated(call) <= result.numel() * result.element_size() + limit, pass_
