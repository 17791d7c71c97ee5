"""nhwc_conv.conv1d and conv_transpose1d beside torch's: results, derivatives, transforms, graphs, errors."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from drop_ins import check_no_view
from samples import absolute, assert_within_rounding, check_derivatives, exact, in_order, op_info, samples
from spy import OpNames
from torch.autograd import gradcheck, gradgradcheck
from torch.func import hessian, jvp, vmap

import nhwc_conv
from nhwc_conv import conv1d, conv_transpose1d

# PyTorch's own forward-mode formulas still go through torch.jit.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit.*:DeprecationWarning", "ignore:Using padding='same'"
)
THEIRS = {conv1d: F.conv1d, conv_transpose1d: F.conv_transpose1d}
INFOS = {function: op_info(f"nn.functional.{function.__name__}") for function in THEIRS}
DTYPES = in_order(set.intersection(*(info.supported_dtypes("cpu") for info in INFOS.values())))
DIFFERENTIABLE = in_order(
    set.intersection(*(info.supported_backward_dtypes("cpu") for info in INFOS.values()))
)


def swapped(t):
    """Of [N, C, L] and [N, L, C], one as the other."""
    return t.movedim(-2, -1)


def on_rows(function):
    """`function` with torch's layouts."""
    return lambda x, w, *args, **kwargs: swapped(function(swapped(x), w.permute(2, 1, 0), *args, **kwargs))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", THEIRS)
def test_pytorch_samples(function, dtype):
    ours, theirs = on_rows(function), THEIRS[function]
    for tensors, kwargs in samples(INFOS[function], dtype):
        out = ours(*tensors, **kwargs)
        assert swapped(out).is_contiguous()
        if not (dtype.is_floating_point or dtype.is_complex):
            assert torch.equal(out, theirs(*tensors, **kwargs))
            continue
        expected, magnitude = (theirs(*to(tensors), **kwargs) for to in (exact, absolute))
        w = tensors[1]
        n = (w[0] if function is conv1d else w[:, 0]).numel() + 1
        assert_within_rounding(out, expected, magnitude, dtype, n)


@pytest.mark.parametrize("units", [False, True], ids=["rounding", "exact"])
@pytest.mark.parametrize("dtype", DIFFERENTIABLE, ids=str)
@pytest.mark.parametrize("function", THEIRS)
def test_gradients_and_second_gradients(function, dtype, units):
    ours, theirs = on_rows(function), THEIRS[function]
    for tensors, kwargs in samples(INFOS[function], dtype):
        out = theirs(*tensors, **kwargs)
        x, w = tensors[:2]
        # A sum over channels and taps, forward and to the input, or over all positions.
        channel, everywhere = w.numel() + 1, max(x[..., 0, :].numel(), out[..., 0, :].numel())
        lengths = channel, channel, everywhere, everywhere, channel, everywhere, 2 * channel
        functions = (lambda *ts, f=f: f(*ts, **kwargs) for f in (ours, theirs))  # noqa: B023
        check_derivatives(*functions, tensors, dtype, lengths, units)


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


@pytest.mark.parametrize("padding", [0, 2, (1,), (3, 0), (0, 1), "same", "SAME_LOWER", "valid"])
def test_every_padding_stride_and_dilation(padding):
    """Against torch on padded signals; the transposed function is the gradient."""
    for stride, dilation, groups in itertools.product((1, (3,)), (1, (4,)), (1, 2)):
        x, w, bias = draw(2, 17, 4), draw(3, 4 // groups, 6), draw(6)
        out = conv1d(x, w, bias, stride, padding, dilation, groups)
        (s, d) = (v if isinstance(v, int) else v[0] for v in (stride, dilation))
        left, right = {"valid": (0, 0), 0: (0, 0), 2: (2, 2), (1,): (1, 1)}.get(padding, padding)[:2]
        if isinstance(left, str):
            total = max((-(-17 // s) - 1) * s + 2 * d + 1 - 17, 0)
            left, right = total // 2, total - total // 2
            left, right = (right, left) if padding == "SAME_LOWER" else (left, right)
        padded = F.pad(swapped(x), (left, right))
        expected = swapped(F.conv1d(padded, w.permute(2, 1, 0), bias, s, 0, d, groups))
        torch.testing.assert_close(out, expected)
        y = conv1d(x.requires_grad_(), w, None, stride, padding, dilation, groups)
        (gradient,) = torch.autograd.grad(y, x, out)
        up = conv_transpose1d(out, w, None, stride, padding, 0, groups, dilation, output_size=17)
        assert torch.equal(up, gradient)


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("dilation", [1, 4])
def test_every_output_padding(stride, dilation):
    x, w, bias = draw(2, 7, 4), draw(3, 5, 4), draw(5)
    for more in range(max(stride, dilation)):
        theirs = swapped(
            F.conv_transpose1d(swapped(x), w.permute(2, 1, 0), bias, stride, 1, more, 1, dilation)
        )
        torch.testing.assert_close(conv_transpose1d(x, w, bias, stride, 1, (more,), 1, dilation), theirs)
        if more < stride:
            for size in (theirs.shape[1], [theirs.shape[1]]):
                sized = conv_transpose1d(x, w, bias, stride, 1, dilation=dilation, output_size=size)
                torch.testing.assert_close(sized, theirs)


@pytest.mark.parametrize("activation_first", [False, True])
def test_it_finishes_as_conv2d_does(activation_first):
    x, w, bias, residual = draw(2, 9, 4), draw(3, 4, 6), draw(6), draw(2, 7, 6).requires_grad_()
    finish = dict(activation=("leaky_relu", 0.1), residual=residual, activation_first=activation_first)
    out = conv1d(x, w, bias, **finish)
    sums = conv1d(x, w, bias)
    slope = lambda t: F.leaky_relu(t, 0.1)  # noqa: E731
    torch.testing.assert_close(out, slope(sums) + residual if activation_first else slope(sums + residual))
    out.sum().backward()
    assert residual.grad.abs().min() > 0
    with OpNames() as names, torch.no_grad():
        conv1d(x, w, bias, **finish)
    assert "nhwc_conv::conv2d_packed" in names.seen


def test_algorithms_and_no_copies():
    x, w = draw(2, 9, 4), draw(3, 4, 6)
    for algorithm, op in (("auto", "conv2d"), ("im2col", "im2col"), ("matmul", "matmul")):
        with OpNames() as names:
            conv1d(x, w, algorithm=algorithm)
        assert [name for name in names.seen if "squeeze" not in name] == [f"nhwc_conv::{op}"]
    transposed = w.transpose(1, 2)
    with OpNames() as names:
        conv_transpose1d(x, transposed)
    assert [name for name in names.seen if "squeeze" not in name] == ["nhwc_conv::conv2d_input"]
    with pytest.raises(ValueError, match="algorithm='fft'"):
        conv1d(x, w, algorithm="fft")
    with pytest.raises(RuntimeError, match="winograd"):
        conv1d(x, w, algorithm="winograd")


CALLS = {
    conv1d: (((2, 9, 4), (3, 2, 6), (6,)), dict(stride=2, padding=(2, 0), groups=2)),
    conv_transpose1d: (
        ((2, 5, 4), (3, 3, 4), (6,)),
        dict(stride=2, padding=(1, 0), output_padding=1, groups=2),
    ),
}


@pytest.mark.parametrize("function", THEIRS)
def test_transforms(function):
    shapes, kwargs = CALLS[function]
    tensors = tuple(draw(*shape) for shape in shapes)

    def ours(x, w, b):
        return function(x, w, b, **kwargs)

    def reference(x, w, b):
        steps = {**kwargs, "padding": 0}
        left = kwargs["padding"][0]
        if function is conv1d:
            return swapped(F.conv1d(F.pad(swapped(x), (left, 0)), w.permute(2, 1, 0), b, **steps))
        return swapped(F.conv_transpose1d(swapped(x), w.permute(2, 1, 0), b, **steps)[..., left:])

    leaves = tuple(t.clone().requires_grad_() for t in tensors)
    assert gradcheck(ours, leaves, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(ours, leaves, fast_mode=True, check_fwd_over_rev=True)
    many = tuple(torch.stack([t, 2 * t, -t]) for t in tensors)
    for transform in (
        lambda f: f(*tensors),
        lambda f: jvp(f, tensors, tensors)[1],
        lambda f: hessian(lambda *ts: f(*ts).pow(3).sum(), 1)(*tensors),
        lambda f: vmap(f)(*many),
        lambda f: vmap(f, (0, None, None))(*tensors),  # of signals without a batch
        lambda f: vmap(f, (None, 0, 0))(tensors[0], *many[1:]),
    ):
        torch.testing.assert_close(transform(ours), transform(reference))


@pytest.mark.parametrize("function", THEIRS)
def test_graphs(function):
    shapes, kwargs = CALLS[function]
    x, w, b = (draw(*shape) for shape in shapes)

    class Model(torch.nn.Module):
        def forward(self, x):
            return function(x, w, b, **kwargs)

    model, expected = Model(), function(x, w, b, **kwargs)
    batch, width = torch.export.Dim.DYNAMIC, torch.export.Dim.DYNAMIC
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: batch, 1: width},)).module()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    for f in (exported, compiled):
        torch.testing.assert_close(f(x), expected)
        longer = torch.cat([x, x], 1)[:1]
        torch.testing.assert_close(f(longer), model(longer))
    traced = torch.fx.symbolic_trace(model)
    assert function in [node.target for node in traced.graph.nodes]
    torch.testing.assert_close(traced(x), expected)
    fake = function(*(t.to("meta") for t in (x, w, b)), **kwargs)
    assert fake.shape == expected.shape and fake.stride() == expected.stride()


@pytest.mark.parametrize("function", THEIRS)
def test_autocast_and_results_that_may_be_changed_in_place(function):
    shapes, kwargs = CALLS[function]
    leaves = [draw(*shape).float().requires_grad_() for shape in shapes]
    with torch.autocast("cpu", torch.bfloat16):
        out = function(*leaves, **kwargs)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, function(*(t.bfloat16() for t in leaves), **kwargs))
    function(*leaves, **kwargs).mul_(2).sum().backward()
    assert all(t.grad.abs().max() > 0 for t in leaves)
    with torch.no_grad():
        out = function(*leaves, **kwargs)
    check_no_view(out)


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype)


BOTH = [
    (dict(x=zeros(4)), ["2D (unbatched) or 3D (batched) input to {name}", "x of size: [4]"]),
    (dict(x=zeros(1, 2, 9, 4)), ["2D (unbatched) or 3D (batched) input to {name}", "[1, 2, 9, 4]"]),
    (dict(x=zeros(1, 9, 7)), ["expected input x[1, 9, 7] to have 4 channels, but got 7"]),
    (dict(x=zeros(1, 0, 4)), ["shape: x[1, 0, 4]"]),
    (dict(w=zeros(3, 1, 4, 4)), ["3D weight [K, C per group, O], but got w of size: [3, 1, 4, 4]"]),
    (dict(w=zeros(0, 4, 4)), ["at dimension 0", "w of size [0, 4, 4]"]),
    (dict(bias=zeros(3)), ["[3, 4, 4]", "4 elements", "[3]"]),
    (dict(groups=3), ["groups=3", "[3, 4, 4]"]),
    (dict(groups=0), ["groups=0"]),
    (dict(stride=0), ["stride=[0]"]),
    (dict(stride=(1, 2)), ["stride", "a list of 1 values", "stride=[1, 2]"]),
    (dict(stride=()), ["stride=[]"]),
    (dict(dilation=(-1,)), ["dilation=[-1]"]),
    (dict(padding=-1), ["padding=[-1]"]),
    (dict(padding=(0, -2)), ["padding=[0, -2]"]),
    (dict(padding=(1, 2, 3)), ["a list of 1 or 2 values", "padding=[1, 2, 3]"]),
    (dict(stride=1.5), ["stride=1.5"]),
    (dict(padding="full"), ["padding='full'"]),
    (dict(x=[1.0]), ["x of type list"]),
    (dict(w=zeros(3, 4, 4, dtype=torch.float64)), ["x: float", "w: double"]),
]
OWN = {
    conv1d: [
        (dict(dilation=5), ["input size per channel: (9). Kernel size: (11)"]),
        (dict(residual=zeros(1, 9, 4)), ["residual to be of size [1, 7, 4], but got residual of size [1, 9, 4]"]),
        (dict(activation="softmax"), ["softmax"]),
    ],
    conv_transpose1d: [
        (dict(padding=20), ["(9). Calculated output size per channel: (-29)"]),
        (dict(output_padding=1), ["output_padding=[1], stride=[1], dilation=[1]"]),
        (dict(output_padding=(1, 1)), ["output_padding=[1, 1]"]),
        (dict(output_padding=-1), ["output_padding=[-1]"]),
        (dict(output_size=99), ["output size of [99], but valid sizes range from [11] to [11]"]),
        (dict(output_size=(11, 4)), ["output_size=[11, 4]"]),
        (dict(output_size=11, output_padding=1, stride=2), ["output_size=[11]", "output_padding=[1]"]),
        (dict(padding="same", output_padding=1), ["output_padding=[1]"]),
    ],
}  # fmt: skip
WRONG = [(function, *row) for function, own in OWN.items() for row in (*BOTH, *own)]


@pytest.mark.parametrize(("function", "bad", "parts"), WRONG, ids=[str(i) for i in range(len(WRONG))])
def test_errors_speak_of_rows(function, bad, parts):
    good = dict(x=zeros(1, 9, 4), w=zeros(3, 4, 4), bias=zeros(4))
    assert function(**good).shape == (1, 7 if function is conv1d else 11, 4)
    with pytest.raises((RuntimeError, TypeError, ValueError)) as error:
        function(**{**good, **bad})
    message = str(error.value)
    for part in parts:
        assert part.format(name=function.__name__) in message, message


def test_a_step_may_be_any_integer():
    x, w = draw(2, 9, 4), draw(3, 4, 6)
    for one in (torch.tensor(2), [torch.tensor(2)]):
        assert torch.equal(conv1d(x, w, None, one, one, one), conv1d(x, w, None, 2, 2, 2))
    assert torch.equal(nhwc_conv.conv1d(x, w, groups=torch.tensor(1)), conv1d(x, w))
