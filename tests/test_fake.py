"""Every fake implementation against the real op, and torch.library.opcheck."""

import pytest
import torch
from cases import BY_NAME, CASES, DTYPES
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import nhwc_conv  # noqa: F401

OPS = ["im2col", "matmul", "conv2d"]
ALL_OPS = [*OPS, "conv2d_input", "conv2d_weight"]


def call(op, case, x, w, bias, grad):
    """The op on the tensors of a case; `grad` has the shape of the output."""
    function = getattr(torch.ops.nhwc_conv, op)
    return function(*arguments(op, case, x, w, bias, grad), **case.geometry)


def arguments(op, case, x, w, bias, grad):
    if op == "conv2d_input":
        return grad, w, case.x[-3:-1]
    if op == "conv2d_weight":
        return grad, x, case.w[:2]
    return x, w, bias


def tensors(case, dtype):
    x, w, bias = case.tensors(dtype)
    grad = case.grad_like(torch.ops.nhwc_conv.im2col(x, w, bias, **case.geometry))
    return x, w, bias, grad


def described(t):
    return tuple(t.shape), t.stride(), t.dtype, t.layout


@pytest.mark.parametrize("op", ALL_OPS)
@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fake_describes_the_real_result(op, case, dtype):
    real = tensors(case, dtype)
    with FakeTensorMode() as mode:
        fake = [None if t is None else mode.from_tensor(t) for t in real]
        out = call(op, case, *fake)
    assert described(out) == described(call(op, case, *real))


@pytest.mark.parametrize("op", ALL_OPS)
@pytest.mark.parametrize("name", ["c8", "depthwise_c16", "same_4x3_s2x2", "unbatched"])
def test_fake_of_strided_inputs(op, name):
    case = BY_NAME[name]
    strided = [None if t is None else t.t() if t.dim() == 2 else t.mT.contiguous().mT
               for t in tensors(case, torch.float32)[:2]]  # fmt: skip
    grad = tensors(case, torch.float32)[3].mT.contiguous().mT
    real = [*strided, None, grad]
    with FakeTensorMode() as mode:
        out = call(op, case, *[None if t is None else mode.from_tensor(t) for t in real])
    assert described(out) == described(call(op, case, *real))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # by torch 2.14's opcheck
@pytest.mark.parametrize("op", ALL_OPS)
@pytest.mark.parametrize(
    "name",
    ["o17", "pad_1_0_2_3", "dilation2_stride3", "depthwise_multiplier3", "same_lower_groups", "unbatched"],
)
def test_opcheck(op, name):
    case = BY_NAME[name]
    args = [
        t.requires_grad_() if isinstance(t, torch.Tensor) else t
        for t in arguments(op, case, *tensors(case, torch.float32))
    ]
    torch.library.opcheck(getattr(torch.ops.nhwc_conv, op).default, args, case.geometry)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", ["stride2_padded", "same_4x3_s2x2", "same_lower_4x3_s2x2", "groups2"])
def test_one_symbolic_graph_serves_other_sizes(op, name):
    """Traced with symbolic sizes, forward and backward, then run on other ones."""
    case = BY_NAME[name]

    def step(x, w):
        out = getattr(torch.ops.nhwc_conv, op)(x, w, None, **case.geometry)
        return out, *torch.autograd.grad(out.sum(), (x, w))

    x, w, _ = case.tensors(torch.float64)
    x = x[:1].repeat(2, 1, 1, 1)  # a size of 1 is traced as a constant
    graph = make_fx(step, tracing_mode="symbolic")(x.requires_grad_(), w.requires_grad_())
    for sizes in ((3, 7, 12), (2, 10, 9), (4, 13, 16)):
        other = torch.randn(*sizes, x.shape[3], dtype=x.dtype, requires_grad=True)
        for got, want in zip(graph(other, w), step(other, w), strict=True):
            assert got.shape == want.shape and torch.equal(got, want)
