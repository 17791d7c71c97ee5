"""Weight gradients of half precision in float32: of the op, and of float32 parameters under autocast."""

import pytest
import torch
from case import HALVES
from cases import BY_NAME, CASES

import nhwc_conv

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

OPS = torch.ops.nhwc_conv
with_halves = pytest.mark.parametrize("dtype", HALVES, ids=["bf16", "f16"])


def gradient_arguments(case, dtype):
    x, w, bias = case.tensors(dtype)
    return case.grad_like(OPS.im2col(x, w, bias, **case.geometry)), x


@with_halves
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_is_what_float32_gives(case, dtype, isa):
    grad, x = gradient_arguments(case, dtype)
    kernel = case.w[:2]
    result = OPS.conv2d_weight(grad, x, kernel, **case.geometry, out_dtype=torch.float32)
    expected = OPS.conv2d_weight(grad.float(), x.float(), kernel, **case.geometry)
    assert result.dtype == torch.float32 and torch.equal(result, expected)
    assert torch.equal(
        OPS.conv2d_weight(grad, x, kernel, **case.geometry, out_dtype=dtype), expected.to(dtype)
    )


@with_halves
def test_of_no_image(dtype):
    none = torch.empty(0, 5, 5, 4, dtype=dtype)
    dw = OPS.conv2d_weight(torch.empty(0, 3, 3, 6, dtype=dtype), none, (3, 3), out_dtype=torch.float32)
    assert torch.equal(dw, torch.zeros(3, 3, 4, 6))


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("dtype", "out_dtype", "allowed"),
    [
        (torch.float32, torch.float64, "float"),
        (torch.float32, torch.bfloat16, "float"),
        (torch.bfloat16, torch.float16, "bfloat16 or float"),
        (torch.float16, torch.int32, "float16 or float"),
        (torch.complex64, torch.float32, "ComplexFloat|complex64|complex"),
    ],
)
def test_other_dtypes_raise(dtype, out_dtype, allowed, device):
    x, grad = (torch.ones(1, 4, 4, 2, dtype=dtype, device=device) for _ in range(2))
    with pytest.raises(RuntimeError, match=f"expected out_dtype to be ({allowed}) for x of type"):
        OPS.conv2d_weight(grad, x, (1, 1), out_dtype=out_dtype)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # by torch 2.14's opcheck
@with_halves
def test_its_gradients_and_opcheck(dtype):
    case = BY_NAME["kernel_3x3"]
    grad, x = (t.requires_grad_() for t in gradient_arguments(case, dtype))
    dw = OPS.conv2d_weight(grad, x, case.w[:2], **case.geometry, out_dtype=torch.float32)
    v = torch.randn(dw.shape)
    found = torch.autograd.grad(dw, (grad, x), v)
    wide = [t.detach().double().requires_grad_() for t in (grad, x)]
    expected = torch.autograd.grad(OPS.conv2d_weight(*wide, case.w[:2], **case.geometry), wide, v.double())
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.double(), b, rtol=torch.finfo(dtype).eps, atol=1e-4)
    options = dict(case.geometry, out_dtype=torch.float32)
    torch.library.opcheck(OPS.conv2d_weight.default, (grad, x, case.w[:2]), options)


@with_halves
def test_vmap_and_tangents(dtype):
    x, grad = torch.randn(3, 2, 6, 6, 4).to(dtype), torch.randn(3, 2, 4, 4, 5).to(dtype)

    def gradient(grad, x):
        return OPS.conv2d_weight(grad, x, (3, 3), out_dtype=torch.float32)

    each = torch.stack([gradient(*pair) for pair in zip(grad, x, strict=True)])
    torch.testing.assert_close(torch.func.vmap(gradient)(grad, x), each)
    value, tangent = torch.func.jvp(lambda x: gradient(grad[0], x), (x[0],), (x[1],))
    assert torch.equal(value, each[0])
    torch.testing.assert_close(tangent, gradient(grad[0], x[1]))


def nhwc_layer():
    return nhwc_conv.NHWCConv2d(8, 12, 3, padding=1), torch.randn(4, 9, 9, 8), lambda t: t


def drop_in_layer():
    def to_ours(t):
        return t.movedim(1, -1)

    return nhwc_conv.Conv2d(8, 12, 3, padding=1), torch.randn(4, 8, 9, 9), to_ours


def op_as_layer():
    layer, x, same = nhwc_layer()

    class Op(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.bias = layer.weight, layer.bias

        def forward(self, x):
            return OPS.conv2d(x, self.weight, self.bias, 1, 1)

    return Op(), x, same


LAYERS = {"NHWCConv2d": nhwc_layer, "Conv2d": drop_in_layer, "op": op_as_layer}
with_layers = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


@with_halves
@with_layers
@pytest.mark.parametrize("algorithm", ["plain", "compiled"])
def test_autocast_does_not_round_the_gradients_of_float32_parameters(make, dtype, algorithm):
    torch.manual_seed(0)
    layer, x, to_ours = make()
    run = torch.compile(layer, backend="aot_eager") if algorithm == "compiled" else layer
    with torch.autocast("cpu", dtype):
        y = run(x)
    assert y.dtype == dtype
    grad = torch.randn_like(y)
    y.backward(grad)
    arguments = to_ours(grad), to_ours(x.to(dtype)), (3, 3), 1, 1
    dw = OPS.conv2d_weight(*arguments, out_dtype=torch.float32)
    assert not torch.equal(dw, dw.to(dtype).float())
    found = layer.weight.grad
    assert torch.equal(found if found.shape == dw.shape else found.permute(2, 3, 1, 0), dw)
    torch.testing.assert_close(layer.bias.grad, to_ours(grad).float().sum((0, 1, 2)), rtol=1e-6, atol=1e-5)


@with_halves
def test_autocast_under_torch_func(dtype):
    torch.manual_seed(0)
    x, w, bias = torch.randn(3, 2, 9, 9, 8), torch.randn(3, 3, 8, 12), torch.randn(12)

    def loss(w, bias, x):
        with torch.autocast("cpu", dtype):
            return OPS.conv2d(x, w, bias, 1, 1).sum()

    grad = torch.ones(2, 9, 9, 12, dtype=dtype)
    each = [OPS.conv2d_weight(grad, one.to(dtype), (3, 3), 1, 1, out_dtype=torch.float32) for one in x]
    dw, dbias = torch.func.grad(loss, (0, 1))(w, bias, x[0])
    assert torch.equal(dw, each[0]) and torch.equal(dbias, torch.full((12,), 162.0))
    batched = torch.func.vmap(torch.func.grad(loss), (None, None, 0))(w, bias, x)
    torch.testing.assert_close(batched, torch.stack(each))
    with pytest.raises(RuntimeError, match="should be the same"):
        torch.func.grad(lambda w: OPS.conv2d(x[0].to(dtype), w).float().sum())(w)


@with_layers
def test_double_backward_under_autocast(make):
    """The gradient of a gradient's norm finds the weight through what was rounded of it."""
    torch.manual_seed(0)
    layer, x, _ = make()
    x.requires_grad_()

    def second(enabled):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = layer(x)
        dx, dw = torch.autograd.grad(y.float().square().sum(), (x, layer.weight), create_graph=True)
        return torch.autograd.grad(dx.float().square().sum() + dw.square().sum(), layer.weight)[0]

    single, half = second(False), second(True)
    assert half.dtype == torch.float32
    assert (single - half).norm() < 0.02 * single.norm()


@with_layers
def test_a_frozen_weight_and_a_weight_alone(make):
    layer, x, _ = make()
    layer.weight.requires_grad_(False)
    x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).sum().backward()
    assert layer.weight.grad is None and x.grad is not None and layer.bias.grad.dtype == torch.float32
    layer.weight.requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x.detach()).sum().backward()
    assert layer.weight.grad.dtype == torch.float32


@with_halves
def test_mixtures_raise_without_autocast(dtype):
    x, w = torch.ones(1, 4, 4, 2, dtype=dtype), torch.ones(1, 1, 2, 2, requires_grad=True)
    for call in (OPS.conv2d, nhwc_conv.conv2d):
        with pytest.raises(RuntimeError, match="should be the same"):
            call(x, w)
