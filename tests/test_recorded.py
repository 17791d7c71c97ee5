"""aten's convolution_overrideable by the extension: what PyTorch records in C++ has the bits of our ops."""

import pytest
import torch
from case import COMPUTED, HALVES, Case
from cases import CASES
from oracle import four_sides, same_bits
from torch.autograd import forward_ad

import nhwc_conv
from nhwc_conv._ops.recorded import as_fields
from nhwc_conv.nn.drop_in import conv2d_nchw

pytestmark = pytest.mark.needs_extension

OURS = torch.ops.nhwc_conv
CONVOLUTION = torch.ops.aten.convolution_overrideable
BACKWARD = torch.ops.aten.convolution_backward_overrideable
OIHW, HWIO = (3, 2, 0, 1), (2, 3, 1, 0)
FORMATS = [torch.contiguous_format, torch.channels_last]
SMALL = Case("recorded", (2, 6, 5, 4), (3, 3, 4, 6), padding=1, bias=True)
RECORD = "ConvolutionOverrideableBackward0"


def to_nchw(t):
    return t.movedim(-1, -3)


def in_format(t, memory_format):
    return t.contiguous(memory_format=memory_format) if t.dim() == 4 else t.contiguous()


def recorded_arguments(case):
    """All that stands behind the tensors, as our ops hand it to PyTorch's."""
    steps_and_sides = as_fields(case.stride, four_sides(case), case.dilation)
    return (), (), (), False, (1, *steps_and_sides), case.groups


@pytest.mark.parametrize("dtype", COMPUTED)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nchw_has_the_bits_of_nhwc(case, dtype, isa):
    """Forward and all gradients, into results of both memory formats."""
    x, w, bias = case.tensors(dtype)
    y = OURS.conv2d(x, w, bias, **case.geometry)
    grad = case.grad_like(y)
    sides = dict(case.geometry, padding=four_sides(case), auto_pad=0)
    expected = (
        to_nchw(y),
        to_nchw(OURS.conv2d_input(grad, w, x.shape[-3:-1], **sides)),
        OURS.conv2d_weight(grad, x, w.shape[:2], **sides).permute(OIHW),
    )
    of_bias = grad.sum(tuple(range(grad.dim() - 1)))
    geometry = recorded_arguments(case)
    for memory_format in FORMATS:
        input, weight = in_format(to_nchw(x), memory_format), in_format(w.permute(OIHW), memory_format)
        found = CONVOLUTION(input, weight, bias, *geometry)
        grads = BACKWARD(
            in_format(to_nchw(grad), memory_format), input, weight, *geometry, [True, True, True]
        )
        for actual, wanted in zip((found, *grads[:2]), expected, strict=True):
            assert same_bits(actual, wanted), memory_format
        torch.testing.assert_close(grads[2], of_bias)


@pytest.mark.parametrize("dtype", COMPUTED)
@pytest.mark.parametrize("name", ["conv2d", "im2col", "matmul", "winograd"])
def test_ops_and_layers_are_recorded_in_cpp(name, dtype):
    x, w, bias = (t.requires_grad_() for t in SMALL.tensors(dtype))
    op = getattr(OURS, name)
    y = op(x, w, bias, padding=1)
    algorithm = "auto" if name == "conv2d" else name
    assert y.grad_fn.name() == RECORD
    assert nhwc_conv.conv2d(x, w, bias, padding=1, algorithm=algorithm).grad_fn.name() == RECORD
    layer = nhwc_conv.Conv2d(4, 6, 3, padding=1, algorithm=algorithm, dtype=dtype)
    assert layer(to_nchw(x)).grad_fn.name() == RECORD
    with torch.no_grad():
        assert same_bits(y, op(x, w, bias, padding=1))
    grad = SMALL.grad_like(y)
    asked = dict(padding=1, algorithm=dict(conv2d=0, im2col=1, matmul=1, winograd=2)[name])
    dx, dw, dbias = torch.autograd.grad(y, (x, w, bias), grad)
    assert same_bits(dx, OURS.conv2d_input(grad, w.detach(), (6, 5), **asked))
    assert same_bits(dw, OURS.conv2d_weight(grad, x.detach(), (3, 3), **asked))
    torch.testing.assert_close(dbias, grad.sum((0, 1, 2)))


def test_what_forward_had_to_do_without_backward_does_without():
    case = Case("no_winograd", (1, 20, 20, 64), (3, 3, 64, 64), padding=1)
    x, w, _ = case.tensors(torch.float32)
    x.requires_grad_()
    with nhwc_conv.flags(winograd=False):
        y = nhwc_conv.conv2d(x, w, padding=1)
    grad = case.grad_like(y)
    (dx,) = torch.autograd.grad(y, x, grad)
    direct, automatic = (OURS.conv2d_input(grad, w, (20, 20), padding=1, algorithm=a) for a in (1, 0))
    assert same_bits(dx, direct) and not same_bits(dx, automatic)


@pytest.mark.parametrize("nchw", [False, True])
@pytest.mark.parametrize("padding", [0, 1, "same"])
def test_derivatives_of_derivatives(nchw, padding):
    x, w, bias = (t.requires_grad_() for t in SMALL.tensors(torch.float64))
    if nchw:
        x, w = (t.detach().permute(OIHW if t is w else (0, 3, 1, 2)).requires_grad_() for t in (x, w))
        layer = nhwc_conv.Conv2d(4, 6, 3, padding=padding, dtype=torch.float64)

        def convolve(x, w, bias):
            return torch.func.functional_call(layer, {"weight": w, "bias": bias}, (x,))
    else:

        def convolve(x, w, bias):
            return nhwc_conv.conv2d(x, w, bias, padding=padding)

    assert convolve(x, w, bias).grad_fn.name() == RECORD
    assert torch.autograd.gradcheck(convolve, (x, w, bias))
    assert torch.autograd.gradgradcheck(convolve, (x, w, bias))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # of torch's own modules
@pytest.mark.parametrize("nchw", [False, True])
def test_tangents_and_batches_of_gradients(nchw):
    """Of a record that was made before: forward AD over backward, and vmap over backward."""
    x, w, _ = SMALL.tensors(torch.float64)
    if nchw:
        layer = nhwc_conv.Conv2d(4, 6, 3, padding=1, bias=False, dtype=torch.float64)
        layer.weight.data = w.permute(OIHW)
        x = to_nchw(x).requires_grad_()
        y = layer(x)
    else:
        y = nhwc_conv.conv2d(x.requires_grad_(), w, padding=1)
    assert y.grad_fn.name() == RECORD
    grad, tangent = torch.randn_like(y), torch.randn_like(y)
    (of_grad,) = torch.autograd.grad(y, x, grad, retain_graph=True)
    (of_tangent,) = torch.autograd.grad(y, x, tangent, retain_graph=True)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(grad, tangent)
        (dx,) = torch.autograd.grad(y, x, dual, retain_graph=True)
        primal, found = forward_ad.unpack_dual(dx)
    torch.testing.assert_close(primal, of_grad)
    torch.testing.assert_close(found, of_tangent)
    (both,) = torch.autograd.grad(y, x, torch.stack((grad, tangent)), is_grads_batched=True)
    torch.testing.assert_close(both, torch.stack((of_grad, of_tangent)))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("make", [nhwc_conv.Conv2d, nhwc_conv.NHWCConv2d])
def test_gradients_under_autocast_are_not_rounded(make, dtype):
    layer = make(4, 6, 3, padding=1)
    x = torch.randn(2, 4, 4, 4)
    with torch.autocast("cpu", dtype):
        y = layer(x)
    assert y.grad_fn.name() == RECORD and y.dtype == dtype
    y.float().square().sum().backward()
    w = layer.weight.detach()
    if make is nhwc_conv.Conv2d:
        x, grad, w = x.movedim(1, -1), (2 * y.detach()).movedim(1, -1), w.permute(HWIO)
    else:
        grad = 2 * y.detach()
    wide = OURS.conv2d_weight(
        grad.contiguous(), x.to(dtype).contiguous(), (3, 3), padding=1, out_dtype=torch.float32
    )
    found = layer.weight.grad if make is nhwc_conv.NHWCConv2d else layer.weight.grad.permute(HWIO)
    assert same_bits(found, wide)
    assert layer.bias.grad.dtype == torch.float32
    # Without autocast the mixture is refused, as by torch.
    with pytest.raises(RuntimeError, match="should be the same"):
        layer(torch.randn(2, 4, 4, 4).to(dtype))


def test_saved_tensors_are_the_callers_own():
    """Nothing is kept beside them, and a change in place is noticed."""
    layer = nhwc_conv.Conv2d(4, 6, 3)
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        y = layer(x)
    assert [t.data_ptr() for t in saved] == [x.data_ptr(), layer.weight.data_ptr()]
    y = layer(x)
    with torch.no_grad():
        layer.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_the_op_itself_says_what_it_does_not_compute():
    x, w = torch.randn(1, 4, 5, 5), torch.randn(6, 4, 3, 3)
    with pytest.raises(RuntimeError, match="no transposed convolution"):
        CONVOLUTION(x, w, None, (1, 1), (0, 0), (1, 1), True, (0, 0), 1)
    with pytest.raises(RuntimeError, match=r"output_padding=\[1, 1\]"):
        CONVOLUTION(x, w, None, (1, 1), (0, 0), (1, 1), False, (1, 1), 1)
    with pytest.raises(RuntimeError, match=r"padding=\[1, 1, 1, 1\]"):
        CONVOLUTION(x, w, None, (1, 1), (1, 1, 1, 1), (1, 1), False, (0, 0), 1)
    with pytest.raises(RuntimeError, match="expected x to be float32"):
        CONVOLUTION(x.int(), w.int(), None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1)


def test_the_op_takes_pytorchs_own_arguments():
    x, w, bias = torch.randn(2, 4, 9, 8), torch.randn(6, 2, 3, 2), torch.randn(6)
    geometry = (2, 1), (1, 2), (1, 3)
    found = CONVOLUTION(x, w, bias, *geometry, False, (0, 0), 2)
    assert torch.equal(found, conv2d_nchw(x, w, bias, *geometry, 2))
    torch.testing.assert_close(found, torch.conv2d(x, w, bias, *geometry, 2))


@pytest.mark.parametrize("leaf", [False, True])
@pytest.mark.parametrize("make", [nhwc_conv.Conv2d, nhwc_conv.NHWCConv2d])
def test_numbers_too_large_for_the_short_form(make, leaf):
    """Whose kernel of one pixel ignores them, and whose result has one."""
    layer = make(4, 4, 1, stride=70_000, dilation=40_000)
    x = torch.randn(1, 4, 4, 4, requires_grad=leaf)
    with torch.set_grad_enabled(leaf):
        y = layer(x)
    assert (y.requires_grad and y.grad_fn.name() != RECORD) == leaf
    if make is nhwc_conv.NHWCConv2d:
        layer, x, y = layer.to_torch(), to_nchw(x), to_nchw(y)
    torch.testing.assert_close(y, torch.conv2d(x, layer.weight, layer.bias, 70_000, 0, 40_000))


def test_modes_see_our_ops():
    """What listens to ops is shown those that were called, not their short form."""
    from torch.utils.flop_counter import FlopCounterMode

    layer = nhwc_conv.Conv2d(4, 6, 3)
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    with FlopCounterMode(display=False) as inside:
        layer(x).sum().backward()
    products = 2 * 2 * 6 * 6 * 6 * 4 * 9
    assert inside.get_total_flops() == 3 * products
    y = layer(x)
    with FlopCounterMode(display=False) as backward_alone:
        y.sum().backward()
    assert backward_alone.get_total_flops() == 2 * products
