"""nhwc_conv.keras.enable: each function of Keras beside the one that it replaces, exactly on integers."""

import itertools
import os
import subprocess
import sys

import pytest
import torch
from case import COMPUTED
from conftest import ROOT
from on_keras import keras, nn, served

import nhwc_conv
from nhwc_conv.keras import switch

ops = keras.ops
FORMS = {
    "conv": ((2, 7, 9, 4), [(3, 2, 4, 6)]),
    "grouped": ((2, 7, 9, 4), [(3, 2, 2, 6)]),
    "depthwise_conv": ((2, 7, 9, 4), [(3, 2, 4, 3)]),
    "separable_conv": ((2, 7, 9, 4), [(3, 2, 4, 3), (1, 1, 12, 5)]),
    "conv_transpose": ((2, 4, 5, 4), [(3, 2, 6, 4)]),
}
STEPS = [{}, {"strides": 2}, {"strides": (3, 2)}, {"dilation_rate": 2}, {"dilation_rate": (1, 3)}]


def function(form):
    return getattr(ops, "conv" if form == "grouped" else form)


def tensors(form, axes, dtype=torch.float32):
    """x and kernels of small integers, of images or of their rows."""
    generator = torch.Generator().manual_seed(0)
    x, kernels = FORMS[form]
    shapes = [x if axes == 2 else (x[0], *x[2:]), *(k if axes == 2 else k[1:] for k in kernels)]
    return [
        torch.randint(-2, 3, shape, generator=generator).to(dtype).requires_grad_(dtype.is_floating_point)
        for shape in shapes
    ]


def steps_of(steps, axes):
    return {name: n[-1:] if isinstance(n, tuple) and axes == 1 else n for name, n in steps.items()}


def results(form, given, **steps):
    """The output and all gradients."""
    out = function(form)(*given, **steps)
    grad = torch.arange(out.numel()).remainder(3).sub(1).view(out.shape).to(out.dtype)
    return [out, *torch.autograd.grad(out, given, grad)]


@pytest.mark.parametrize("padding", ["same", "VALID"])
@pytest.mark.parametrize("steps", STEPS, ids=str)
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_convolutions_and_gradients(form, axes, steps, padding, monkeypatch):
    steps = {**steps_of(steps, axes), "padding": padding}
    given = tensors(form, axes)
    expected = results(form, given, **steps)
    with served(monkeypatch) as calls:
        actual = results(form, given, **steps)
    assert calls.total() == (2 if form == "separable_conv" else 1)
    assert actual[0].is_contiguous()
    assert all(map(torch.equal, actual, expected))


@pytest.mark.parametrize("dtype", COMPUTED, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_dtypes(form, dtype, monkeypatch):
    given = tensors(form, 2, dtype)
    expected = results(form, given, padding="same")
    with served(monkeypatch) as calls:
        assert all(map(torch.equal, results(form, given, padding="same"), expected))
    assert calls


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("axes", [1, 2])
def test_output_padding(axes, padding, monkeypatch):
    given = tensors("conv_transpose", axes)
    for strides, apart, more in itertools.product((1, 2, 4), (1, 2), (None, 0, 1, 2, 3)):
        steps = {"strides": strides, "dilation_rate": apart, "padding": padding, "output_padding": more}
        expected = results("conv_transpose", given, **steps)
        with served(monkeypatch) as calls:
            assert all(map(torch.equal, results("conv_transpose", given, **steps), expected))
        assert bool(calls) or (more or 0) >= strides  # zeros beyond a stride are Keras' own


ELSE = {
    "channels_first": lambda x: ops.conv(x, torch.ones(2, 2, 1, 28), data_format="channels_first"),
    "three axes": lambda x: ops.conv(x[None], torch.ones(1, 3, 3, 4, 2)),
    "complex": lambda x: ops.conv(x.cfloat(), torch.ones(2, 2, 4, 3).cfloat()),
    "another device": lambda x: ops.conv(x.to("meta"), torch.ones(3, 3, 4, 2, device="meta")),
}


@pytest.mark.parametrize("form", ELSE)
def test_all_else_is_the_original(form, monkeypatch):
    x = tensors("conv", 2)[0].detach()
    call, scope = ELSE[form], "meta" if form == "another device" else "cpu"
    with keras.device(scope):
        expected = call(x)
        with served(monkeypatch) as calls:
            actual = call(x)
    assert not calls
    assert actual.shape == expected.shape and actual.device == expected.device
    assert actual.is_meta or torch.equal(actual, expected)


ERRORS = {
    "channels": lambda x: ops.conv(x, torch.ones(3, 3, 3, 2)),
    "strides": lambda x: ops.conv(x, torch.ones(3, 3, 4, 2), strides=(1, 2, 3)),
    "no stride": lambda x: ops.conv(x, torch.ones(3, 3, 4, 2), strides=0),
    "dilation_rate": lambda x: ops.conv(x, torch.ones(3, 3, 4, 2), dilation_rate=(1, 2, 3)),
    "kernel": lambda x: ops.conv(x, torch.ones(9, 9, 4, 2)),
    "outputs": lambda x: ops.conv(x, torch.ones(3, 3, 2, 3)),
    "rank": lambda x: ops.conv(x, torch.ones(3, 4, 2)),
    "dtypes": lambda x: ops.conv(x, torch.ones(3, 3, 4, 2).double()),
    "integers": lambda x: ops.conv_transpose(x.int(), torch.ones(2, 2, 3, 4).int()),
    "depthwise channels": lambda x: ops.depthwise_conv(x, torch.ones(3, 3, 5, 2)),
    "transposed channels": lambda x: ops.conv_transpose(x, torch.ones(3, 3, 2, 5)),
    "padding": lambda x: nn.conv_transpose(x, torch.ones(3, 3, 2, 4), padding="around"),
}


@pytest.mark.parametrize("mistake", ERRORS)
def test_errors_are_those_of_keras(mistake, monkeypatch):
    x = tensors("conv", 2)[0]
    with pytest.raises(Exception) as expected:  # noqa: B017, PT011  # whatever it is
        ERRORS[mistake](x)
    with served(monkeypatch) as calls, pytest.raises(expected.type) as actual:
        ERRORS[mistake](x)
    assert not calls and str(actual.value) == str(expected.value)


def originals():
    import nhwc_conv.keras.replacements as replacements

    return [getattr(owner, name) for owner, name, _ in replacements.TABLE]


def test_enable_and_disable():
    before = originals()
    with nhwc_conv.keras.enable():
        inside = originals()
        assert not any(a is b for a, b in zip(inside, before, strict=True))
        with nhwc_conv.keras.enable():
            assert originals() == inside
        assert originals() == inside
    assert originals() == before
    nhwc_conv.keras.enable()
    nhwc_conv.keras.enable()
    assert originals() == inside or not any(a is b for a, b in zip(originals(), before, strict=True))
    nhwc_conv.keras.disable()
    nhwc_conv.keras.disable()
    assert originals() == before


def test_a_block_that_raises_is_left():
    before = originals()
    with pytest.raises(ZeroDivisionError), nhwc_conv.keras.enable():
        raise ZeroDivisionError
    assert originals() == before


@pytest.mark.parametrize(
    "owner, name, value, message",
    [
        (keras, "__version__", "3.99.0", "knows Keras 3.15.1, but this is 3.99.0; nothing was changed"),
        (keras.backend, "backend", lambda: "jax", "its backend is 'jax': set KERAS_BACKEND=torch"),
    ],
)
def test_another_keras_is_left_alone(owner, name, value, message, monkeypatch):
    before = originals()
    monkeypatch.setattr(owner, name, value)
    with pytest.raises(RuntimeError, match=message):
        nhwc_conv.keras.enable()
    assert originals() == before and not switch._replaced


def test_importing_the_package_imports_no_keras():
    code = "import sys, nhwc_conv; nhwc_conv.keras.enable; assert 'keras' not in sys.modules"
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, timeout=120
    )
