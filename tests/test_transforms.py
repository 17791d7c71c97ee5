"""torch.func, forward-mode AD, torch.compile: derivatives against those of F.conv2d, none silently zero."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad, gradcheck
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import nhwc_conv
from nhwc_conv import Conv2d, NHWCConv2d, NHWCConvTranspose2d

# PyTorch's own forward-mode formulas still go through torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")

OPS = ["im2col", "matmul", "conv2d"]
every_op = pytest.mark.parametrize("op", OPS)
GEOMETRY = dict(stride=2, padding=(1, 0, 2, 1), dilation=(1, 2), groups=2)


def tensors():
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 4, 5, 4), (2, 2, 2, 6), (6,)
    return tuple(torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)


def ours(op):
    return lambda x, w, bias=None: getattr(torch.ops.nhwc_conv, op)(x, w, bias, **GEOMETRY)


def theirs(x, w, bias=None):
    image = F.pad(x.movedim(-1, -3), (2, 1, 1, 0))
    return F.conv2d(image, w.permute(3, 2, 0, 1), bias, 2, 0, (1, 2), 2).movedim(-3, -1)


def cubed(function):
    return lambda *args: function(*args).pow(3).sum()


def same_and_not_zero(actual, expected):
    torch.testing.assert_close(actual, expected)
    assert all(t.abs().max() > 0 for t in torch.utils._pytree.tree_leaves(expected))


@every_op
@pytest.mark.parametrize("argnums", [0, 1, 2, (0, 1, 2)])
@pytest.mark.parametrize("transform", [grad, jacrev, jacfwd, hessian], ids=lambda f: f.__name__)
def test_derivatives(op, transform, argnums):
    expected = transform(cubed(theirs), argnums)(*tensors())
    torch.testing.assert_close(transform(cubed(ours(op)), argnums)(*tensors()), expected)
    assert any(t.abs().max() > 0 for t in torch.utils._pytree.tree_leaves(expected))


@every_op
def test_jvp_and_vjp(op):
    args = tensors()
    tangents = tuple(t.flip(0) for t in args)
    same_and_not_zero(jvp(ours(op), args, tangents), jvp(theirs, args, tangents))
    cotangent = theirs(*args).cos()
    same_and_not_zero(vjp(ours(op), *args)[1](cotangent), vjp(theirs, *args)[1](cotangent))


def mapped(t, dim, size=3):
    if dim is None:
        return t
    generator = torch.Generator().manual_seed(dim)
    shape = list(t.shape)
    shape.insert(dim, size)
    return torch.randn(shape, generator=generator, dtype=t.dtype)


@every_op
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(
    "dims", [d for d in itertools.product((None, 0, 1), repeat=3) if any(x is not None for x in d)]
)
def test_vmap(op, dims, batched):
    x, w, bias = tensors()
    args = [mapped(t, dim) for t, dim in zip((x if batched else x[0], w, bias), dims, strict=True)]
    same_and_not_zero(vmap(ours(op), dims)(*args), vmap(theirs, dims)(*args))
    for argnum in range(3):
        transformed = [vmap(grad(cubed(f), argnum), dims)(*args) for f in (ours(op), theirs)]
        same_and_not_zero(*transformed)


def test_vmap_of_vmap():
    x, w, _ = tensors()
    x, w = mapped(mapped(x, 0), 0, 2), mapped(w, 1)
    dims = dict(in_dims=(0, None)), dict(in_dims=(0, 1))
    nested = [vmap(vmap(f, **dims[1]), **dims[0])(x, w) for f in (ours("conv2d"), theirs)]
    same_and_not_zero(*nested)


@pytest.mark.parametrize("dims", [(0, None), (None, 1), (0, 0)])
def test_vmap_of_the_gradient_ops(dims):
    x, w, _ = tensors()
    g = theirs(x, w)
    ops = torch.ops.nhwc_conv
    for function, args in (
        (lambda g, w: ops.conv2d_input(g, w, x.shape[1:3], **GEOMETRY), (g, w)),
        (lambda g, x: ops.conv2d_weight(g, x, w.shape[:2], **GEOMETRY), (g, x)),
    ):
        args = [mapped(t, dim) for t, dim in zip(args, dims, strict=True)]
        looped = [
            function(*(t if d is None else t.select(d, i) for t, d in zip(args, dims, strict=True)))
            for i in range(3)
        ]
        same_and_not_zero(vmap(function, dims)(*args), torch.stack(looped))


@every_op
def test_forward_mode_without_torch_func(op):
    args = tensors()
    for i in range(3):
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(t, t.cos()) if i == j else t for j, t in enumerate(args)]
            results = [forward_ad.unpack_dual(f(*duals)) for f in (ours(op), theirs)]
            same_and_not_zero(results[0].tangent, results[1].tangent)
            with torch.no_grad():
                through = forward_ad.unpack_dual(
                    nhwc_conv.conv2d(duals[0], duals[1][:, :, :, :6], duals[2], groups=2)
                )
            assert through.tangent is not None and through.tangent.abs().max() > 0


def test_gradcheck_of_everything():
    args = tuple(t.requires_grad_() for t in tensors())
    assert gradcheck(
        ours("conv2d"), args, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )
    assert torch.autograd.gradgradcheck(ours("im2col"), args, check_fwd_over_rev=True)


def test_the_functional_form_under_transforms():
    x, w, _ = tensors()

    def function(x, w):
        return nhwc_conv.conv2d(x, w, None, 1, "same", groups=2).pow(2).sum()

    def reference(x, w):
        return F.conv2d(x.movedim(-1, -3), w.permute(3, 2, 0, 1), padding=0, groups=2).pow(2).sum()

    w1 = w[:1, :1]
    same_and_not_zero(grad(function, 1)(x, w1), grad(reference, 1)(x, w1))
    with torch.no_grad():
        same_and_not_zero(hessian(function, 1)(x, w1), hessian(reference, 1)(x, w1))


def test_a_tensor_that_outlives_its_transform():
    """Wrapped still, and of no use to torch.func any more: as for F.conv2d, a tensor like others."""
    x, w, bias = (t.requires_grad_() for t in tensors())
    kept = []

    def keeping(x):
        kept.append(x)
        return nhwc_conv.conv2d(x, w.detach(), **GEOMETRY).sum()

    grad(keeping)(x.detach())
    results = []
    for convolve in (lambda *args: nhwc_conv.conv2d(*args, **GEOMETRY), theirs):
        out = convolve(kept[0], w, bias)
        results += [(out, *torch.autograd.grad(cubed(convolve)(kept[0], w, bias), (w, bias)))]
    torch.testing.assert_close(*results)


def test_per_sample_gradients():
    x, w, _ = tensors()
    per_sample = vmap(grad(cubed(ours("conv2d")), 1), (0, None))(x, w)
    looped = torch.stack([grad(cubed(theirs), 1)(image, w) for image in x])
    same_and_not_zero(per_sample, looped)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(reentrant):
    from torch.utils.checkpoint import checkpoint

    grads = []
    for f in (ours("conv2d"), theirs):
        x, w, bias = (t.requires_grad_() for t in tensors())
        checkpoint(f, x, w, bias, use_reentrant=reentrant).pow(3).sum().backward()
        grads.append((x.grad, w.grad, bias.grad))
    same_and_not_zero(*grads)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("padding", [1, "same_lower"])
def test_compile(dynamic, padding):
    """One graph, forward and backward, with a function and both layers in it."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    layers = NHWCConv2d(4, 6, 3, stride=2, padding=padding).double(), Conv2d(6, 2, 1).double()
    weight = torch.randn(3, 3, 2, 4, dtype=torch.float64, requires_grad=True)

    def function(x):
        x = nhwc_conv.conv2d(x, weight, groups=2, padding="same").relu()
        return layers[1](layers[0](x).permute(0, 3, 1, 2))

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    parameters = [weight, *layers[0].parameters(), *layers[1].parameters()]
    for shape in ((2, 6, 8, 4), (3, 9, 5, 4)) if dynamic else ((2, 6, 8, 4),):
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        outs = compiled(x), function(x)
        torch.testing.assert_close(*outs)
        assert outs[0].stride() == outs[1].stride()
        grads = [torch.autograd.grad(out.pow(2).sum(), [x, *parameters]) for out in outs]
        same_and_not_zero(*grads)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), function(x))


def test_proxy_tensors_see_the_op():
    from torch.fx.experimental.proxy_tensor import make_fx

    x, w, _ = tensors()
    graph = make_fx(lambda x, w: nhwc_conv.conv2d(x, w, groups=2))(x, w)
    assert torch.ops.nhwc_conv.conv2d.default in [n.target for n in graph.graph.nodes]


def test_jit_trace_sees_the_op():
    x, w, _ = (t.requires_grad_() for t in tensors())
    traced = torch.jit.trace(lambda x, w: nhwc_conv.conv2d(x, w, groups=2), (x, w))
    assert "nhwc_conv::conv2d" in str(traced.graph)


padded_layers = pytest.mark.parametrize(
    ("kernel", "steps"),
    [(3, dict(stride=1)), (4, dict(stride=1)), (3, dict(stride=(3, 2), dilation=2))],
    ids=str,
)


@padded_layers
@pytest.mark.parametrize("how", ["jit", "fx"])
@pytest.mark.parametrize("padding", ["same", "same_lower"])
@pytest.mark.parametrize("mode", ["reflect", "circular"])
def test_traces_of_padded_layers_take_any_size(how, padding, mode, kernel, steps):
    layer = NHWCConv2d(4, 6, kernel, padding=padding, padding_mode=mode, **steps)
    x = torch.randn(2, 8, 11, 4)
    traced = torch.jit.trace(layer, x) if how == "jit" else torch.fx.symbolic_trace(layer)
    for image in (x, torch.randn(1, 9, 6, 4), torch.randn(7, 10, 4)):
        if image.dim() == 4 or how == "fx":
            assert torch.equal(traced(image), layer(image))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # that sizes become constants
@pytest.mark.parametrize(
    "steps",
    [dict(stride=2, padding=1), dict(stride=2, padding="same"), dict(dilation=3, output_padding=2)],
    ids=str,
)
def test_jit_trace_of_the_transposed_layer(steps):
    """Of the image's size; any other one raises."""
    layer, x = NHWCConvTranspose2d(4, 6, 3, **steps), torch.randn(2, 5, 7, 4)
    traced = torch.jit.trace(layer, x)
    for batch in (x, torch.randn(3, 5, 7, 4)):
        assert torch.equal(traced(batch), layer(batch))
    with pytest.raises(RuntimeError, match="expected grad to be of size"):
        traced(torch.randn(2, 6, 7, 4))
