"""PyTorch's own error inputs of convolutions, and what else its functions refuse."""

import re

import pytest
import torch
import torch.nn.functional as F
from drop_ins import check_raises_the_same
from kinds import FORMS, KINDS, parametrize

import nhwc_conv


def has_own_words(kind, form):
    return kind.own_words or form.__name__ == "functional"


@parametrize("kind, ours", [(kind, form) for kind, form in FORMS if kind.info.error_inputs_func])
def test_error_inputs(kind, ours):
    """PyTorch has none of transposed convolutions."""
    errors = list(kind.info.error_inputs("cpu"))
    assert len(errors) >= 10
    for error in errors:
        sample = error.sample_input
        if ours.__name__ == "functional" and sample.args[0].dim() != kind.n + 2:
            continue  # cannot be permuted
        with pytest.raises(error.error_type) as raised:
            ours(sample.input, *sample.args, **sample.kwargs)
        text = error.error_regex
        if has_own_words(kind, ours):  # which count dimensions as in HWIO
            text = text.replace("at least 3 at dimension 0", f"at least 3 at dimension {kind.n + 1}")
        assert type(raised.value) is error.error_type and re.search(text, str(raised.value))


def zeros(*shape):
    return torch.zeros(shape)


def wrong(kind):
    """(name, value) of what takes the place of good arguments."""
    image, taps, long, longer = (6,) * kind.n, (3,) * kind.n, (1,) * (kind.n + 1), (1,) * (kind.n + 2)
    rows = dict(
        x=[
            [1.0], zeros(4), zeros(1, 4, *image, 6), zeros(1, 5, *image), zeros(1, 4, *image)[..., :0],
            zeros(1, 4, *image).double(), zeros(1, 4, *image).to_sparse(),
        ],
        w=[None, zeros(4, 2), zeros(4, 2, *taps, 3), zeros(4, 0, *taps), zeros(4, 2, *taps).double()],
        bias=["x", zeros(3), zeros(4, 1), zeros(4).double()],
        stride=[0, -1, (), long, "a", 1.5, None],
        padding=[-1, (), long, longer, "full", 1.5, None],
        dilation=[0, -1, long, 1.5],
        groups=[0, -1, 3, 4, 1.5, None],
    )  # fmt: skip
    if kind.transposed:
        rows["padding"] += [9, "same"]
        rows["output_padding"] = [-1, 1, long, "a", 1.5]
    else:
        rows["dilation"] += [9]
    return [(name, value) for name, values in rows.items() for value in values]


@parametrize(
    "kind, name, value", [(kind, *row) for kind in KINDS if not kind.own_words for row in wrong(kind)]
)
def test_errors_are_torchs(kind, name, value):
    tensors = dict(x=zeros(1, 4, *(6,) * kind.n), w=zeros(4, 2, *(3,) * kind.n), bias=zeros(4))
    arguments = tensors | kind.defaults | dict(groups=2)
    kind.drop_in(*arguments.values())
    arguments[name] = value
    check_raises_the_same(lambda function: function(*arguments.values()), (kind.function, kind.drop_in))


@parametrize("kind, ours", [form for form in FORMS if has_own_words(*form)])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint16], ids=str)
def test_dtypes_that_aten_refuses(kind, ours, dtype):
    x, w = (torch.ones(2, 2, *(size,) * kind.n).to(dtype) for size in (4, 2))
    with pytest.raises(RuntimeError):
        kind.function(x, w)
    with pytest.raises(RuntimeError, match=f"but got {dtype}".replace("torch.", "")):
        ours(x, w)


@pytest.mark.parametrize("shape", [(4,), (4, 4), (1, 1, 4, 4, 4)], ids=str)
def test_ranks_that_the_drop_in_refuses(shape):
    """In F.conv2d's words, packed or not."""
    layer = nhwc_conv.Conv2d(1, 1, 2).eval()
    with pytest.raises(RuntimeError) as theirs:
        F.conv2d(torch.zeros(shape), layer.weight)
    for module in (layer, nhwc_conv.prepack(layer)):
        with torch.no_grad(), pytest.raises(RuntimeError) as ours:
            module(torch.zeros(shape))
        assert str(ours.value) == str(theirs.value)
