"""nhwc_conv.keras.enable: pooling without a copy, batch normalisation by torch's, beside what they replace."""

import pytest
import torch
from on_keras import check, keras
from spy import OpNames

import nhwc_conv

ops = keras.ops
POOLS = {
    "max": lambda x: ops.max_pool(x, 2),
    "max, same": lambda x: ops.max_pool(x, 3, 2, "same"),
    "max, steps": lambda x: ops.max_pool(x, (3, 2), (2, 3)),
    "average": lambda x: ops.average_pool(x, 2),
    "average, same": lambda x: ops.average_pool(x, 3, 1, "same"),
    "average, odd": lambda x: ops.average_pool(x, 2, 3, "same"),
    "adaptive max": lambda x: ops.adaptive_max_pool(x, (3, 2)),
    "adaptive average": lambda x: ops.adaptive_average_pool(x, (3, 2)),
}
COPIES = {"aten::clone", "aten::copy_", "aten::contiguous", "aten::_to_copy"}


def result_and_gradient(function, x):
    out = function(x)
    return out, torch.autograd.grad(out, x, torch.arange(out.numel()).view(out.shape).to(out.dtype))[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("pool", POOLS)
def test_pooling_without_a_copy(pool, dtype):
    """The same bits; only averages, whose sums torch divides once or twice, may differ in the last one."""
    x = (
        torch.randint(-9, 9, (2, 8, 9, 5), generator=torch.Generator().manual_seed(0))
        .to(dtype)
        .requires_grad_()
    )
    expected = result_and_gradient(POOLS[pool], x)
    with nhwc_conv.keras.enable():
        actual = result_and_gradient(POOLS[pool], x)
        with torch.no_grad(), OpNames() as ops_that_run:
            out = POOLS[pool](x)
    for a, b in zip(actual, expected, strict=True):
        assert (a - b).abs().max() <= torch.finfo(dtype).eps * b.abs().max() * ("average" in pool)
    assert out.is_contiguous() and not COPIES & set(ops_that_run.seen)


def test_pooling_of_signals_and_volumes_and_shapes():
    for shape in ((2, 9, 3), (1, 4, 4, 4, 3)):
        x = torch.arange(float(torch.Size(shape).numel())).view(shape)
        expected = ops.max_pool(x, 2)
        with nhwc_conv.keras.enable():
            assert torch.equal(ops.max_pool(x, 2), expected)
    with nhwc_conv.keras.enable():
        assert keras.layers.MaxPooling2D(2)(keras.Input((8, 8, 3))).shape == (None, 4, 4, 3)


def norm(shape, **options):
    """A layer whose numbers are drawn at random."""
    layer = keras.layers.BatchNormalization(**options)
    layer.build(shape)
    generator = torch.Generator().manual_seed(1)
    for v in layer.variables:
        v.assign(torch.rand(v.shape, generator=generator) + 0.5)
    return layer


def images(shape, dtype=torch.float32):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(2)) + 0.5).to(dtype).requires_grad_()


def direction(out):
    return torch.randn(out.shape, generator=torch.Generator().manual_seed(3)).to(out.dtype)


def computed(layer, x, training):
    """By name: the result, the gradients of x and of what is trained, and the moving statistics behind the call."""
    out = layer(x, training=training)
    names = ["x", *(v.name for v in layer.trainable_variables)]
    tensors = [x, *(v.value for v in layer.trainable_variables)]
    found = dict(zip(names, torch.autograd.grad(out, tensors, direction(out)), strict=True))
    return {
        "out": out.detach(),
        **found,
        **{v.name: v.value.detach().clone() for v in layer.non_trainable_variables},
    }


def exact(layer, x, training):
    """The same in float64, by the formula; `layer` stays as it is."""
    x = x.detach().double().requires_grad_()
    names = [v.name for v in layer.trainable_variables]
    trained = {name: getattr(layer, name).value.detach().double().requires_grad_() for name in names}
    moving = {v.name: v.value.detach().double() for v in layer.non_trainable_variables}
    mean, variance = moving.values()
    if training:
        pixels = x.flatten(0, -2)
        mean, variance = pixels.mean(0), pixels.var(0, correction=0)
        for (name, old), new in zip(moving.items(), (mean, variance), strict=True):
            moving[name] = old * layer.momentum + new.detach() * (1 - layer.momentum)
    out = (x - mean) / (variance + layer.epsilon).sqrt() * trained.get("gamma", 1) + trained.get("beta", 0)
    found = torch.autograd.grad(out, [x, *trained.values()], direction(out).double())
    return {"out": out.detach(), **dict(zip(["x", *trained], found, strict=True)), **moving}


def counting(monkeypatch):
    """Calls of torch's batch_norm."""
    calls, original = [], torch.nn.functional.batch_norm

    def batch_norm(*args):
        calls.append(args)
        return original(*args)

    monkeypatch.setattr(torch.nn.functional, "batch_norm", batch_norm)
    return calls


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "options", [{}, {"scale": False}, {"center": False, "epsilon": 0.1, "momentum": 0.5}], ids=str
)
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (7, 6), (2, 9, 6), (2, 3, 2, 2, 6)], ids=str)
def test_batch_normalization(shape, options, dtype, training, monkeypatch):
    x = images(shape, getattr(torch, dtype.removeprefix("mixed_")))
    answer = exact(norm(shape, dtype=dtype, **options), x, training)
    theirs = computed(norm(shape, dtype=dtype, **options), x, training)
    calls = counting(monkeypatch)
    with nhwc_conv.keras.enable():
        actual = computed(norm(shape, dtype=dtype, **options), x, training)
    assert len(calls) == 1
    check(actual, theirs, answer)


OTHERWISE = {
    "another axis": ({"axis": 2}, {}),
    "renorm": ({"renorm": True}, {"training": True}),
    "a mask": ({}, {"training": True, "mask": torch.ones(3, 4, 6, dtype=torch.bool)}),
}


@pytest.mark.parametrize("form", OTHERWISE)
def test_other_normalisation_is_the_original(form, monkeypatch):
    options, arguments = OTHERWISE[form]
    x = images((3, 4, 6, 6))
    expected = norm(x.shape, **options)(x, **arguments)
    calls = counting(monkeypatch)
    with nhwc_conv.keras.enable():
        assert torch.equal(norm(x.shape, **options)(x, **arguments), expected)
    assert len(calls) == 0


def test_one_pixel_is_trained_as_before(monkeypatch):
    x = images((1, 1, 1, 6))
    expected = norm(x.shape)(x, training=True)
    with nhwc_conv.keras.enable():
        assert torch.equal(norm(x.shape)(x, training=True), expected)


def test_gradients_of_given_moments(monkeypatch):
    x = images((3, 4, 4, 6))

    def gradients():
        mean, variance = ops.moments(x, (0, 1, 2))
        out = ops.batch_normalization(x, mean, variance, -1)
        return torch.autograd.grad(out.pow(3).sum(), x)[0]

    expected = gradients()
    calls = counting(monkeypatch)
    with nhwc_conv.keras.enable():
        assert torch.equal(gradients(), expected)
    assert not calls


def test_layers_that_do_not_train_are_left_so():
    layer, x = norm((3, 4, 4, 6)), images((3, 4, 4, 6))
    layer.trainable = False
    before = layer.moving_mean.value.clone()
    expected = layer(x, training=True)
    with nhwc_conv.keras.enable():
        out = layer(x, training=True)
    assert torch.equal(layer.moving_mean.value, before)
    torch.testing.assert_close(out, expected, rtol=0, atol=64 * torch.finfo(torch.float32).eps)


def test_normalised_twice_before_gradients():
    """What autograd keeps of the first call is not what the second one changes."""
    layer = norm((3, 4, 4, 6))
    model = keras.Sequential([keras.Input((4, 4, 6)), layer])
    x, y = images((3, 4, 4, 6)), images((5, 4, 4, 6))

    def gradients():
        outs = model(x, training=True), model(y, training=True)
        return torch.autograd.grad([out.pow(3).sum() for out in outs], [x, y])

    expected = gradients()
    with nhwc_conv.keras.enable():
        torch.testing.assert_close(gradients(), expected)
