"""torch.func on models of our layers against the same models of torch.nn.Conv2d, and what has no derivative."""

import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import SHORT_OPS
from torch import nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, jacrev, jvp, linearize, stack_module_state, vjp, vmap
from torch.utils.checkpoint import checkpoint

import nhwc_conv
from nhwc_conv import NHWCConv2d, conv2d, convert

# PyTorch's own forward-mode formulas still go through torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
ops = torch.ops.nhwc_conv


class Small(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding="same", groups=4, padding_mode="circular")
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.last(self.depthwise(self.first(x).tanh()).tanh()).mean((-2, -1))


class SmallNHWC(Small):
    """The same model with NHWCConv2d inside."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.first = NHWCConv2d(3, 4, 3, stride=2, padding=1)
        self.depthwise = NHWCConv2d(4, 4, 3, padding="same", groups=4, padding_mode="circular")
        self.last = NHWCConv2d(4, 2, 1)

    def forward(self, x):
        x = self.depthwise(self.first(x.movedim(-3, -1)).tanh()).tanh()
        return self.last(x).mean((-3, -2))


def drop_in(seed=0):
    return convert(Small(seed))


models = pytest.mark.parametrize("model", [drop_in, SmallNHWC], ids=["Conv2d", "NHWCConv2d"])


def image(*batch):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*batch, 3, 6, 5, generator=generator, dtype=torch.float64)


def same(ours, theirs, model):
    """Values keyed by parameter agree with those of Small, whose weights are OIHW, and are not zero."""
    for name, value in ours.items():
        if model is SmallNHWC and name.endswith("weight"):
            value = value.movedim((-2, -1), (-3, -4))
        torch.testing.assert_close(value, theirs[name])
        assert value.abs().max() > 0, name


@models
@pytest.mark.parametrize("batched", [False, True], ids=["CHW", "NCHW"])
def test_per_sample_gradients_of_a_model(model, batched):
    x = image(3, 1) if batched else image(3)
    gradients = []
    for m in (model().double(), Small().double()):
        parameters = {n: p.detach() for n, p in m.named_parameters()}

        def loss(parameters, x, m=m):
            return functional_call(m, parameters, (x,)).pow(2).sum()

        gradients.append(vmap(grad(loss), (None, 0))(parameters, x))
    same(*gradients, model)
    whole = grad(loss)(parameters, x.flatten(0, -4))
    torch.testing.assert_close({n: g.sum(0) for n, g in gradients[1].items()}, whole)


@models
def test_ensemble(model):
    """Weights and images mapped, and weights alone, through torch.func.stack_module_state."""
    outs, gradients = [], []
    for make in (model, Small):
        members = [make(seed).double() for seed in range(3)]
        parameters, _ = stack_module_state(members)
        base = copy.deepcopy(members[0]).to("meta")

        def call(parameters, x, base=base):
            return functional_call(base, parameters, (x,))

        for x, dim in ((image(3, 2), 0), (image(2), None)):
            outs.append(vmap(call, (0, dim))(parameters, x))
            each = [m(x if dim is None else x[i]) for i, m in enumerate(members)]
            torch.testing.assert_close(outs[-1], torch.stack(each))
        gradients.append(vmap(grad(lambda p, x: call(p, x).sum()), (0, None))(parameters, image(2)))  # noqa: B023
    torch.testing.assert_close(outs[:2], outs[2:])
    same(*gradients, model)


@models
def test_hessian_vector_products(model):
    """Forward over reverse, reverse over forward, and reverse over reverse."""
    x, v = image(2), image(2).flip(0)
    ours, theirs = (lambda x, m=m: m(x).pow(3).sum() for m in (model().double(), Small().double()))
    expected = vjp(grad(theirs), x)[1](v)[0]
    assert expected.abs().max() > 0
    torch.testing.assert_close(vjp(grad(ours), x)[1](v)[0], expected)
    torch.testing.assert_close(jvp(grad(ours), (x,), (v,))[1], expected)
    torch.testing.assert_close(grad(lambda x: jvp(ours, (x,), (v,))[1])(x), expected)


@models
def test_nested_maps_of_derivatives(model):
    x, m, reference = image(2, 3, 2), model().double(), Small().double()
    nested = [vmap(vmap(jacrev(f)), in_dims=1, out_dims=-1)(x) for f in (m, reference)]
    torch.testing.assert_close(*nested)
    assert nested[0].abs().max() > 0


@pytest.mark.parametrize("strategy", ["forward-mode", "reverse-mode"])
def test_vectorized_jacobians(strategy):
    x, layer = image(2).movedim(1, -1), SmallNHWC().double().first
    compute = torch.autograd.functional.jacobian
    kwargs = dict(vectorize=True, strategy=strategy)
    reference = compute(lambda x: F.conv2d(x.movedim(-1, 1), layer.weight.permute(3, 2, 0, 1), None, 2, 1), x)
    ours = compute(lambda x: conv2d(x, layer.weight, None, 2, 1), x, **kwargs)
    torch.testing.assert_close(ours.movedim(3, 1), reference)


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # in torch.func.linearize
def test_linearize_and_the_arguments_of_vmap():
    x = torch.stack([image(2).movedim(1, -1)] * 3, -1)
    w = torch.randn(3, 2, 3, 4, dtype=torch.float64)
    f = lambda x: conv2d(x, w, padding="same_lower")  # noqa: E731
    expected = torch.stack([f(x[..., i]) for i in range(3)], -1)
    for chunk_size in (None, 1, 2):
        torch.testing.assert_close(vmap(f, -1, -1, chunk_size=chunk_size)(x), expected)
    torch.testing.assert_close(linearize(f, x[..., 0])[1](x[..., 1]), f(x[..., 1]))


def test_functionalize_raises():
    with pytest.raises(RuntimeError, match="Functionalize"):
        torch.func.functionalize(lambda x: conv2d(x, x))(torch.ones(2, 2, 2, 2))


@pytest.mark.parametrize("op", ["conv2d_input", "conv2d_weight"])
def test_forward_mode_of_the_gradient_ops(op):
    x, w = torch.randn(1, 4, 3, 2, dtype=torch.float64), torch.randn(2, 2, 2, 3, dtype=torch.float64)
    steps = dict(stride=(2, 1), padding=(1, 0, 0, 1))
    g = ops.conv2d(x, w, None, **steps)
    other, size = (w, x.shape[1:3]) if op == "conv2d_input" else (x, w.shape[:2])
    leaves = g.requires_grad_(), other.requires_grad_()
    function = lambda *ts: getattr(ops, op)(*ts, size, **steps)  # noqa: E731
    assert gradcheck(function, leaves, check_forward_ad=True, check_batched_forward_grad=True)
    assert gradgradcheck(function, leaves, check_fwd_over_rev=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_transforms_under_autocast(dtype):
    """Each equals the transform of the function that casts by itself; a gradient comes back in float32."""
    torch.manual_seed(0)
    x, w, b = torch.randn(2, 5, 6, 4), torch.randn(3, 3, 4, 8), torch.randn(8)

    def by_hand(x, w, b):
        return conv2d(x.to(dtype), w.to(dtype), b.to(dtype))

    def loss(function):
        return lambda *ts: function(*ts).float().pow(2).sum()

    # Gradients of w and b, before they became float32.
    rounded_by_hand = {"grad": (1, 2), "per_sample": (0,)}
    for name, transform in {
        "vmap": lambda f: vmap(f, (0, None, None))(x, w, b),
        "jvp": lambda f: jvp(f, (x, w, b), (x.flip(0), w.flip(0), b.flip(0)))[1],
        "grad": lambda f: grad(loss(f), (0, 1, 2))(x, w, b),
        "per_sample": lambda f: vmap(grad(loss(f), 1), (0, None, None))(x, w, b),
        "hvp": lambda f: jvp(lambda w: grad(loss(f), 0)(x, w, b), (w,), (w.flip(0),))[1],
    }.items():
        with torch.autocast("cpu", dtype):
            under = transform(conv2d)
        plain = transform(by_hand)
        leaves = torch.utils._pytree.tree_leaves(under)
        for index, expected in enumerate(torch.utils._pytree.tree_leaves(plain)):
            found = leaves[index]
            if index in rounded_by_hand.get(name, ()):
                found, expected = found.to(dtype), expected.to(dtype)
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
        assert all(t.dtype == (dtype if name in ("vmap", "jvp") else torch.float32) for t in leaves), name


@models
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers(model, reentrant):
    gradients = []
    for wrapped in (False, True):
        m, x = model().double(), image(2).requires_grad_()
        out = checkpoint(m, x, use_reentrant=reentrant) if wrapped else m(x)
        out.pow(2).sum().backward()
        gradients.append([x.grad, *(p.grad for p in m.parameters())])
    assert all(torch.equal(a, b) and a.abs().max() > 0 for a, b in zip(*gradients, strict=True))


@models
def test_packed_layers_under_transforms(model):
    """A transform needs what packed weights cannot give, so the layers compute with their parameters there."""
    plain, packed = model().double().eval(), nhwc_conv.prepack(model().double().eval())
    x = image(2)
    with torch.no_grad():
        for transform in (
            lambda m: grad(lambda x: m(x).sum())(x),
            lambda m: jvp(m, (x,), (x.flip(0),))[1],
            lambda m: vmap(m)(x[:, None]),
        ):
            expected = transform(plain)
            torch.testing.assert_close(transform(packed), expected)
            assert expected.abs().max() > 0


def without_derivatives():
    x, w = torch.randn(1, 4, 4, 2, dtype=torch.float64), torch.randn(3, 3, 2, 3, dtype=torch.float64)
    packed = ops.pack_weight(w)
    g = ops.conv2d(x, w)
    return {
        "pack_weight": (ops.pack_weight, w),
        "conv2d_packed": (lambda x: ops.conv2d_packed(x, packed, w.shape), x),
        "_aten_conv2d": (lambda x: ops._aten_conv2d(x, w), x),
        "_aten_conv2d_input": (lambda g: ops._aten_conv2d_input(g, w, (4, 4)), g),
        "_aten_conv2d_weight": (lambda g: ops._aten_conv2d_weight(g, x, (3, 3)), g),
    }


def test_every_op_is_differentiable_or_listed_above():
    names = {name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if "nhwc_conv::" in name}
    public = {*without_derivatives(), *nhwc_conv._ops.FORWARD_OPS, "conv2d_input", "conv2d_weight"}
    assert names == public | SHORT_OPS


@pytest.mark.parametrize("name", without_derivatives())
def test_no_derivative_is_silently_zero(name):
    function, t = without_derivatives()[name]
    with pytest.raises(RuntimeError, match=f"{name} has no gradient"):
        function(t.clone().requires_grad_())
    with pytest.raises(RuntimeError, match=f"{name} has no gradient"):
        grad(lambda t: function(t).sum())(t)
    with pytest.raises(RuntimeError, match=f"{name} has no derivative"):
        jvp(function, (t,), (t,))
    with torch.no_grad(), forward_ad.dual_level():
        with pytest.raises(RuntimeError, match=f"{name} has no derivative"):
            function(forward_ad.make_dual(t, t))
        function(t)  # no tangent, nothing to lose
