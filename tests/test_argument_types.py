"""What counts as an integer, as in PyTorch, and exceptions that name an argument of the wrong type."""

import numpy as np
import pytest
import torch

import nhwc_conv
from nhwc_conv import NHWCConv2d, NHWCConvTranspose2d, conv2d, conv_transpose2d

X, W = torch.randn(1, 7, 8, 4), torch.randn(3, 3, 4, 4)
TWO = {
    "NumPy": np.int64(2),
    "tensor": torch.tensor(2),
    "pair of NumPy": (np.int32(2), np.int32(2)),
    "pair of tensors": (torch.tensor(2), torch.tensor(2)),
    "array": np.array([2, 2]),
    "list": [2, 2],
    "one": (2,),
}
FUNCTIONS = {"conv2d": conv2d, "conv_transpose2d": conv_transpose2d}


@pytest.mark.parametrize("two", TWO.values(), ids=TWO)
@pytest.mark.parametrize("name", ["stride", "padding", "dilation"])
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_integers_of_functions(function, name, two):
    leaf = W.clone().requires_grad_()
    out = function(X, leaf, **{name: two})
    assert torch.equal(out, function(X, W, **{name: 2})) and out.requires_grad
    with torch.no_grad():
        assert torch.equal(function(X, W, **{name: two}), out)


def test_integers_of_some_arguments_only():
    assert torch.equal(conv2d(X, W[:, :, :2], groups=np.int64(2)), conv2d(X, W[:, :, :2], groups=2))
    for one in (np.int64(1), torch.tensor(1), (1,)):
        out = conv_transpose2d(X, W, stride=2, output_padding=one)
        assert torch.equal(out, conv_transpose2d(X, W, stride=2, output_padding=1))
        assert torch.equal(out, conv_transpose2d(X, W, stride=2, output_size=np.array(out.shape[1:3])))
    assert torch.equal(conv2d(X, W, padding=np.array([1, 0, 2, 1])), conv2d(X, W, padding=(1, 0, 2, 1)))


@pytest.mark.parametrize("two", TWO.values(), ids=TWO)
@pytest.mark.parametrize("layer", [NHWCConv2d, NHWCConvTranspose2d])
def test_integers_of_layers(layer, two):
    made = layer(4, 4, two, stride=two, padding=two, dilation=two)
    assert made.kernel_size == made.stride == made.dilation == (2, 2) and made.padding == (2,) * 4
    assert all(type(n) is int for n in (*made.kernel_size, *made.stride, *made.padding))


@pytest.mark.needs_extension
def test_integers_of_explain():
    plans = [nhwc_conv.explain(X.shape, W.shape, stride=two) for two in (2, np.int64(2))]
    assert plans[0] == plans[1]


WRONG = {
    "float": (2.0, "=2.0"),
    "float in a pair": ((2, 2.0), "=(2, 2.0)"),
    "string": ("2", "='2'"),
    "nothing": (None, "=None"),
    "tensor of floats": (torch.tensor(2.0), "=tensor(2.)"),
}


@pytest.mark.parametrize(("wrong", "shown"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        *[(conv2d, name) for name in ("stride", "padding", "dilation")],
        *[(conv_transpose2d, name) for name in ("stride", "padding", "output_padding", "dilation")],
    ],
)
def test_no_integers(function, name, wrong, shown, grad):
    if name == "padding" and isinstance(wrong, str):
        pytest.skip("padding strings are ValueErrors, in test_functional")
    with pytest.raises(TypeError) as error:
        function(X, W.clone().requires_grad_(grad), **{name: wrong})
    assert name + shown in str(error.value)


@pytest.mark.parametrize(("wrong", "shown"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", ["kernel_size", "stride", "dilation", "padding"])
@pytest.mark.parametrize("layer", [NHWCConv2d, NHWCConvTranspose2d])
def test_no_integers_for_layers(layer, name, wrong, shown):
    if name == "padding" and isinstance(wrong, str):
        pytest.skip("padding strings are ValueErrors, in test_nn")
    with pytest.raises(TypeError) as error:
        layer(**{"in_channels": 3, "out_channels": 4, "kernel_size": 3, name: wrong})
    assert name + shown in str(error.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda padding: conv2d(X, W, padding=padding),
        lambda padding: conv2d(X, W.clone().requires_grad_(), padding=padding),
        lambda padding: conv_transpose2d(X, W, padding=padding),
        lambda padding: NHWCConv2d(4, 4, 3, padding=padding),
        lambda padding: NHWCConvTranspose2d(4, 4, 3, padding=padding),
        lambda padding: NHWCConv2d.from_kernel(W, padding=padding),
        lambda padding: NHWCConv2d.from_depthwise_kernel(W, padding=padding),
        lambda padding: nhwc_conv.Conv2d(4, 4, 3, padding=padding),
        lambda padding: nhwc_conv.LazyConv2d(4, 3, padding=padding),
        lambda padding: nhwc_conv.LazyNHWCConv2d(4, 3, padding=padding),
    ],
)
def test_the_padding_of_jax(call):
    """((top, bottom), (left, right)): how to write that here stands in the message."""
    for pairs in (((1, 0), (2, 3)), [[1, 0], [2, 3]], [(np.int64(1), 0), (2, 3)], np.array([[1, 0], [2, 3]])):
        with pytest.raises(TypeError) as error:
            call(pairs)
        assert str(error.value) == (
            f"expected padding to be an int or a tuple of ints, but got padding={pairs!r}; "
            f"write that as (top, bottom, left, right) = (1, 0, 2, 3)"
        )
    for wrong in (((1, 0),), ((1, 0), (2, 3.0)), ((1, 0), (2, 3), (0, 0)), 1.5, ("ab", "cd")):
        with pytest.raises(TypeError) as error:
            call(wrong)
        assert str(error.value).endswith(f"but got padding={wrong!r}")


def test_only_padding_has_four_sides():
    with pytest.raises(TypeError) as error:
        conv2d(X, W, stride=((1, 0), (2, 3)))
    assert str(error.value).endswith("but got stride=((1, 0), (2, 3))")


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize(("wrong", "shown"), [(1.0, "1.0"), ((1, 1), "(1, 1)"), (None, "None")])
def test_no_groups(function, wrong, shown):
    with pytest.raises(TypeError) as error:
        function(X, W, groups=wrong)
    assert str(error.value) == f"expected groups to be an int, but got groups={shown}"


def test_an_output_size_of_no_integers():
    with pytest.raises(TypeError, match=r"output_size=\(9.0, 10\)"):
        conv_transpose2d(X, W, output_size=(9.0, 10))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_no_tensors(function, grad):
    bias = torch.zeros(4)
    for name, wrong, kind in (
        ("x", X.numpy(), "ndarray"), ("x", [1], "list"), ("x", None, "NoneType"),
        ("w", W.numpy(), "ndarray"), ("w", 1, "int"), ("bias", 1.0, "float"), ("bias", bias.numpy(), "ndarray"),
    ):  # fmt: skip
        arguments = {"x": X, "w": W, "bias": bias, name: wrong}
        with pytest.raises(TypeError) as error, torch.set_grad_enabled(grad):
            function(**arguments)
        assert str(error.value) == f"expected {name} to be a Tensor, but got {name} of type {kind}"


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_other_errors_are_raised_once_and_as_they_are(function):
    """A wrong shape beside an integer of NumPy's, and an exception of somebody else's."""
    with pytest.raises(RuntimeError, match="channels, but got 3 channels"):
        function(X[..., :3], W, stride=np.int64(2))

    class Refuses(torch.utils._python_dispatch.TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.calls += 1
            raise AttributeError("mine")

    with Refuses() as mode, pytest.raises(AttributeError, match="mine"):
        function(X, W, stride=(2, 1))
    assert mode.calls == 1
