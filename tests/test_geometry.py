"""The size formulas and the texts of errors, against F.conv2d itself."""

import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nhwc_conv import _geometry as geometry
from nhwc_conv._geometry import texts

sizes = st.integers(1, 12)
small = st.integers(1, 4)


def forward(x, w, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, auto_pad=0):
    return geometry.forward_geometry(x, w, bias, stride, padding, dilation, groups, auto_pad)


@settings(max_examples=300, deadline=None)
@given(H=sizes, W=sizes, kernel=st.tuples(small, small), stride=st.tuples(small, small),
       padding=st.tuples(*[st.integers(0, 3)] * 4), dilation=st.tuples(small, small))  # fmt: skip
def test_output_size_is_that_of_conv2d(H, W, kernel, stride, padding, dilation):
    top, bottom, left, right = padding
    image = F.pad(torch.empty(2, 3, H, W, device="meta"), (left, right, top, bottom))
    arguments = dict(stride=stride, dilation=dilation)
    try:
        expected = F.conv2d(image, torch.empty(5, 3, *kernel, device="meta"), **arguments).shape
    except RuntimeError as error:
        with pytest.raises(RuntimeError) as ours:
            forward((2, H, W, 3), (*kernel, 3, 5), padding=padding, **arguments)
        assert str(ours.value) == str(error)
        return
    g = forward((2, H, W, 3), (*kernel, 3, 5), padding=padding, **arguments)
    assert (g.N, g.O, g.OH, g.OW) == tuple(expected)
    assert g.padding == padding


@given(size=st.integers(1, 40), kernel=st.integers(1, 9), stride=st.integers(1, 6), dilation=small)
def test_auto_pad_pads_just_enough(size, kernel, stride, dilation):
    """ceil(size / stride) outputs; one pixel of padding less, if there is any, would make them fewer."""
    before, after = geometry.same_sides(size, kernel, stride, dilation, geometry.SAME)
    assert geometry.same_sides(size, kernel, stride, dilation, geometry.SAME_LOWER) == (after, before)
    assert 0 <= before <= after <= before + 1

    def outputs(total):
        return (size + total - dilation * (kernel - 1) - 1) // stride + 1

    assert outputs(before + after) == -(-size // stride)
    assert before + after == 0 or outputs(before + after - 1) < -(-size // stride)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_auto_pad_at_stride_1_is_that_of_conv2d():
    for size, kernel, dilation in itertools.product((4, 7), (1, 2, 3, 4), (1, 2)):
        image, weight = torch.randn(1, 1, size, size), torch.randn(1, 1, kernel, kernel)
        top, bottom = geometry.same_sides(size, kernel, 1, dilation, geometry.SAME)
        padded = F.pad(image, (top, bottom, top, bottom))
        same = F.conv2d(image, weight, padding="same", dilation=dilation)
        torch.testing.assert_close(F.conv2d(padded, weight, dilation=dilation), same)


LENGTH = (
    "expected stride to be a single integer value or a list of 2 values to match the convolution dimensions"
)

# What differs from a good call, in our arguments and in those of F.conv2d, and how both texts begin.
ERRORS = [
    (dict(stride=(0, 1)), dict(stride=(0, 1)), "non-positive stride is not supported"),
    (dict(dilation=(1, 0)), dict(dilation=(1, 0)), "non-positive dilation is not supported"),
    (dict(groups=0), dict(groups=0), "non-positive groups is not supported"),
    (dict(groups=-1), dict(groups=-1), "non-positive groups is not supported"),
    (dict(padding=(0, -1)), dict(padding=(0, -1)), "negative padding is not supported"),
    (dict(stride=(1, 2, 3)), dict(stride=(1, 2, 3)), f"{LENGTH}, but got stride=[1, 2, 3]"),
    (dict(x=(8, 8)), dict(x=(8, 8)), "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got"),
    (dict(w=(9, 3, 4, 6)), dict(w=(6, 4, 9, 3)), "Calculated padded input size per channel: (8 x 7). Kernel"),
    (dict(w=(3, 3, 5, 6)), dict(w=(6, 5, 3, 3)), "Given groups=1, weight "),
    (
        dict(x=(2, 8, 7, 16), groups=4),
        dict(x=(2, 16, 8, 7), groups=4),
        "Given groups=4, expected weight to be divisible by 4 at dimension",
    ),
    (
        dict(x=(2, 8, 7, 32), groups=8),
        dict(x=(2, 32, 8, 7), groups=8),
        "Given groups=8, expected weight to be at least 8 at dimension",
    ),
    (dict(bias=(5,)), dict(bias=(5,)), "Given weight "),
]


@pytest.mark.parametrize(("ours", "theirs", "text"), ERRORS, ids=[row[2][:40] for row in ERRORS])
def test_wording_is_that_of_conv2d(ours, theirs, text):
    with pytest.raises(RuntimeError) as error:
        forward(**{"x": (2, 8, 7, 4), "w": (3, 3, 4, 6), **ours})
    assert str(error.value).startswith(text)
    bias = theirs.pop("bias", None)
    shapes = {"x": (2, 4, 8, 7), "w": (6, 4, 3, 3), **theirs}
    x, w = torch.zeros(shapes.pop("x")), torch.zeros(shapes.pop("w"))
    with pytest.raises(RuntimeError) as error:
        F.conv2d(x, w, None if bias is None else torch.zeros(bias), **shapes)
    assert str(error.value).startswith(text)


def test_every_text_has_a_use():
    package = Path(texts.__spec__.origin).parents[1]
    code = "".join(path.read_text() for path in package.rglob("*.py"))
    names = [n for n, v in vars(texts).items() if n.isupper() and isinstance(v, str)]
    assert len(names) > 15 and not [n for n in names if f"texts.{n}" not in code]


@pytest.mark.parametrize("auto_pad", [0, 1, 2])
def test_a_stride_beyond_int64_arithmetic(auto_pad):
    g = forward((1, 5, 6, 1), (3, 3, 1, 1), stride=(2**63 - 1, 2**63 - 1), auto_pad=auto_pad)
    assert (g.OH, g.OW) == (1, 1)


@pytest.mark.parametrize("name", ["padding", "dilation"])
@pytest.mark.parametrize("value", [2**47, 2**62, 2**63 - 1])
def test_huge_values_are_named(name, value):
    with pytest.raises(RuntimeError, match=f"expected {name} to be at most .* but got {name}=.*{value}"):
        forward((1, 5, 6, 1), (3, 3, 1, 1), **{name: (0 if name == "padding" else 1, value)})


def test_overflow_of_the_result_is_named():
    with pytest.raises(RuntimeError, match=r"at most \d+ elements, but got size \[1, \d+, \d+, 1\]"):
        forward((1, 5, 6, 1), (3, 3, 1, 1), padding=(2**30, 2**30))
    assert forward((1, 5, 6, 1), (3, 3, 1, 1), padding=(2**20, 2**20)).OH == 2**21 + 3
    with pytest.raises(RuntimeError, match="result"):
        forward((1, 2**20, 2**20, 1), (1, 1, 1, 2**20))


def test_constructor_arguments():
    assert geometry.as_pair("stride", 2) == (2, 2) and geometry.as_pair("stride", [1, 3]) == (1, 3)
    assert geometry.as_sides(1) == (1,) * 4 and geometry.as_sides((1, 2)) == (1, 1, 2, 2)
    assert geometry.as_sides((1, 2, 3, 4)) == (1, 2, 3, 4)
    assert geometry.padding_argument("Same_Lower") == (0, geometry.SAME_LOWER)
    assert geometry.padding_argument((1, 2)) == ((1, 2), geometry.EXPLICIT)
    for call in (
        lambda: geometry.as_pair("stride", (1, 2, 3)),
        lambda: geometry.as_sides((1, 2, 3)),
        lambda: geometry.padding_argument("full"),
    ):
        with pytest.raises(ValueError, match="stride=|padding="):
            call()
