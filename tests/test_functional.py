"""nhwc_conv.conv2d: its arguments, its dtypes, autocast, and the shortcut past the dispatcher."""

import pytest
import torch
import torch.nn.functional as F
from spy import OpNames

import nhwc_conv
from nhwc_conv import conv2d


def by_torch(x, w, bias=None, *args, **kwargs):
    image = x.movedim(-1, -3)
    return F.conv2d(image, w.permute(3, 2, 0, 1).contiguous(), bias, *args, **kwargs).movedim(-3, -1)


def tensors(dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 6, 7, 4), (3, 3, 4, 8), (8,)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(device, dtype) for s in shapes]


@pytest.mark.parametrize("algorithm", ["auto", "im2col", "matmul"])
def test_arguments_are_those_of_conv2d(algorithm):
    x, w, bias = tensors()
    for args in ((), (None, 2), (bias, (2, 1), 1), (bias, 1, (2, 0), (1, 2)), (None, 1, 1, 1, 1)):
        torch.testing.assert_close(conv2d(x, w, *args, algorithm=algorithm), by_torch(x, w, *args))
    torch.testing.assert_close(conv2d(x, w[:, :, :2], groups=2), by_torch(x, w[:, :, :2], groups=2))


def test_algorithm_names_the_op():
    x, w, _ = tensors(torch.float32)
    for algorithm, op in (("auto", "conv2d"), ("im2col", "im2col"), ("matmul", "matmul")):
        with OpNames() as names:
            conv2d(x, w, algorithm=algorithm)
        assert names.seen == [f"nhwc_conv::{op}"]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # F.conv2d's, about a copy
@pytest.mark.parametrize("padding", ["same", "SAME", "Same"])
def test_same_at_stride_1(padding):
    x, w, bias = tensors()
    w = w[:2]  # an even kernel
    torch.testing.assert_close(conv2d(x, w, bias, padding=padding), by_torch(x, w, bias, padding="same"))


def test_padding_strings_at_stride_2():
    x, w, _ = tensors()
    w = w[:2, :2]  # 6 pixels need none, 7 need one more
    same = conv2d(x, w, stride=2, padding="same")
    assert same.shape[1:3] == (3, 4) and torch.equal(same, conv2d(x, w, stride=2, padding=(0, 0, 0, 1)))
    lower = conv2d(x, w, stride=2, padding="same_lower")
    assert torch.equal(lower, conv2d(x, w, stride=2, padding=(0, 0, 1, 0))) and not torch.equal(lower, same)
    assert torch.equal(conv2d(x, w, padding="VALID"), conv2d(x, w))


def test_bad_strings():
    x, w, _ = tensors()
    with pytest.raises(ValueError, match="algorithm='fft'; valid ones are auto, im2col, matmul"):
        conv2d(x, w, algorithm="fft")
    with pytest.raises(ValueError, match="padding='full'; valid ones are valid, same, same_lower"):
        conv2d(x, w, padding="full")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex128, torch.int64, torch.int8])
@pytest.mark.parametrize("geometry", [dict(), dict(stride=2, padding=1), dict(padding=1, groups=2)], ids=str)
def test_other_dtypes_are_those_of_conv2d(dtype, geometry):
    x, w, bias = tensors(torch.float64)
    x, w, bias = ((4 * t).round().to(dtype) for t in (x, w[:, :, : 4 // geometry.get("groups", 1)], bias))
    if dtype.is_complex:
        x = x + 1j * x.flip(1)
    for args in ((x, w), (x, w, bias)):
        out = conv2d(*args, **geometry)
        assert out.dtype == dtype and out.is_contiguous()
        torch.testing.assert_close(out, by_torch(*args, **geometry))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex128])
@pytest.mark.parametrize("padding", [1, (0, 1, 2, 0)])
def test_gradients_of_other_dtypes(dtype, padding):
    if dtype == torch.complex128:
        # Each of their elements costs a call, and of second derivatives several.
        shapes = (1, 5, 4, 2), (3, 3, 2, 3), (3,)
        x, w, bias = (torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes)
        function = lambda *args: conv2d(*args, stride=2, padding=padding)  # noqa: E731
        assert torch.autograd.gradcheck(function, (x, w, bias)) and torch.autograd.gradgradcheck(
            function, (x, w, bias), nondet_tol=1e-10
        )
        return
    leaves = [t.requires_grad_() for t in tensors(dtype)]
    same = [t.detach().double().requires_grad_() for t in leaves]
    grads = [torch.autograd.grad(conv2d(*ts, stride=2, padding=padding).sum(), ts) for ts in (leaves, same)]
    for low, high in zip(*grads, strict=True):
        assert low.dtype == dtype
        torch.testing.assert_close(low.double(), high, rtol=2**-7, atol=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_results_may_be_changed_in_place(dtype):
    """As nn.ReLU(inplace=True) does; autograd would not let a view that an op returns."""
    layer = nhwc_conv.Conv2d(4, 8, 3, dtype=dtype)
    gradients = []
    for double in (lambda t: t.mul_(2), lambda t: 2 * t):
        x, w, bias = (t.requires_grad_() for t in tensors(dtype))
        image = x.permute(0, 3, 1, 2)
        for out in (conv2d(x, w), conv2d(x, w, bias), layer(image), torch.ops.nhwc_conv.matmul(x, w)):
            double(out).abs().sum().backward()
        gradients.append((x.grad, w.grad, bias.grad))
    torch.testing.assert_close(*gradients)


def test_other_devices():
    x, w, bias = (t.requires_grad_() for t in tensors(device="meta"))
    out = conv2d(x, w, bias, 2, "same")
    assert out.shape == (2, 3, 4, 8) and out.device.type == "meta"
    out.sum().backward()
    assert x.grad.shape == x.shape and w.grad.shape == w.shape and bias.grad.shape == bias.shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    x, w, bias = (t.requires_grad_() for t in tensors(torch.float32))
    with torch.autocast("cpu", dtype):
        out = conv2d(x, w, bias)
        assert out.dtype == dtype
        raw = torch.ops.nhwc_conv.im2col(x, w, bias)
        assert raw.dtype == dtype and raw.grad_fn is not None
        assert conv2d(x.double(), w.double()).dtype == torch.float64
    out.sum().backward()
    assert x.grad.dtype == torch.float32 and x.grad.abs().max() > 0
    with torch.autocast("cpu", dtype), torch.no_grad():
        assert conv2d(x, w, bias).dtype == dtype


def test_recording_through_the_shortcut():
    for needs in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        x, w, bias = (t.requires_grad_(bool(n)) for t, n in zip(tensors(), needs, strict=True))
        assert conv2d(x, w, bias).requires_grad
        with torch.no_grad():
            assert not conv2d(x, w, bias).requires_grad
        with torch.inference_mode():
            assert conv2d(x, w, bias).is_inference()


def test_subclasses_and_function_modes_see_the_function():
    class Tagged(torch.Tensor):
        pass

    x, w, _ = tensors()
    assert type(conv2d(x.as_subclass(Tagged), w)) is Tagged

    seen = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Watch():
        conv2d(x, w, padding="same")
    assert seen[0] is nhwc_conv.conv2d
