"""Bad arguments raise, with the name and the value of the argument, in the op and in its fake alike."""

import itertools
import re

import pytest
import torch

import nhwc_conv

FORWARD = ["im2col", "matmul", "conv2d"]
GRADIENT = ["conv2d_input", "conv2d_weight"]
HUGE = [2**31 - 1, 2**31, 2**32 + 1, 2**62, 2**63 - 1]


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype)


def good(op):
    """Arguments that work: x [2, 5, 6, 4], w [3, 3, 4, 8], so grad is [2, 3, 4, 8]."""
    x, w, grad = zeros(2, 5, 6, 4), zeros(3, 3, 4, 8), zeros(2, 3, 4, 8)
    geometry = dict(stride=[1, 1], padding=[0, 0], dilation=[1, 1], groups=1, auto_pad=0)
    if op == "conv2d_input":
        return dict(grad=grad, w=w, input_size=[5, 6], **geometry, algorithm=0)
    if op == "conv2d_weight":
        return dict(grad=grad, x=x, kernel_size=[3, 3], **geometry, algorithm=0)
    if op == "conv2d_packed":
        packed = torch.ops.nhwc_conv.pack_weight(w)
        return dict(
            x=x, packed=packed, weight_size=[3, 3, 4, 8], bias=zeros(8), **geometry, weight=w, oihw=False
        )
    return dict(x=x, w=w, bias=zeros(8), **geometry)


def run(op, arguments):
    return getattr(torch.ops.nhwc_conv, op)(**arguments)


def on_meta(arguments):
    return {k: v.to("meta") if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}


# Each row: what is wrong, the arguments that replace good ones, and what the message must contain.
GEOMETRY = [
    ("stride_zero", dict(stride=[0, 1]), ["stride", "0"]),
    ("stride_negative", dict(stride=[1, -3]), ["stride", "-3"]),
    ("stride_three", dict(stride=[1, 2, 3]), ["stride", "[1, 2, 3]"]),
    ("stride_empty", dict(stride=[]), ["stride", "[]"]),
    ("padding_negative", dict(padding=[0, -7]), ["padding", "-7"]),
    ("padding_negative_side", dict(padding=[0, 1, -7, 0]), ["padding", "-7"]),
    ("padding_three", dict(padding=[1, 2, 3]), ["padding", "[1, 2, 3]"]),
    ("padding_five", dict(padding=[1, 2, 3, 4, 5]), ["padding", "[1, 2, 3, 4, 5]"]),
    ("padding_empty", dict(padding=[]), ["padding", "[]"]),
    ("dilation_zero", dict(dilation=[1, 0]), ["dilation", "0"]),
    ("dilation_negative", dict(dilation=[-2, 1]), ["dilation", "-2"]),
    ("dilation_four", dict(dilation=[1, 1, 1, 1]), ["dilation", "[1, 1, 1, 1]"]),
    ("groups_zero", dict(groups=0), ["groups", "0"]),
    ("groups_negative", dict(groups=-2), ["groups", "-2"]),
    ("auto_pad_unknown", dict(auto_pad=3), ["auto_pad", "3"]),
    ("auto_pad_negative", dict(auto_pad=-1), ["auto_pad", "-1"]),
]
ROWS = [(op, *row) for op in FORWARD + GRADIENT for row in GEOMETRY]
ROWS += [
    (op, *row)
    for op in FORWARD
    for row in [
        ("x_rank_2", dict(x=zeros(5, 6)), ["[5, 6]"]),
        ("x_rank_5", dict(x=zeros(1, 2, 5, 6, 4)), ["[1, 2, 5, 6, 4]"]),
        ("x_scalar", dict(x=torch.tensor(1.0)), ["[]"]),
        ("w_rank_3", dict(w=zeros(3, 4, 8)), ["[3, 4, 8]"]),
        ("w_rank_5", dict(w=zeros(1, 3, 3, 4, 8)), ["[1, 3, 3, 4, 8]"]),
        ("channels", dict(x=zeros(2, 5, 6, 7)), ["groups=1", "[2, 5, 6, 7]", "[3, 3, 4, 8]"]),
        ("channels_groups", dict(groups=2), ["groups=2", "[2, 5, 6, 4]", "[3, 3, 4, 8]"]),
        ("o_groups", dict(x=zeros(2, 5, 6, 12), groups=3), ["groups=3", "[3, 3, 4, 8]"]),
        ("kernel_over_image", dict(w=zeros(6, 3, 4, 8)), ["5 x 6", "6 x 3"]),
        ("kernel_over_padded", dict(w=zeros(3, 9, 4, 8), padding=[0, 1]), ["5 x 8", "3 x 9"]),
        ("kernel_over_dilated", dict(dilation=[3, 1]), ["5 x 6", "7 x 3"]),
        ("kernel_empty", dict(w=zeros(0, 3, 4, 8)), ["w", "[0, 3, 4, 8]"]),
        ("o_empty", dict(w=zeros(3, 3, 4, 0), bias=zeros(0)), ["w", "[3, 3, 4, 0]"]),
        ("image_empty", dict(x=zeros(2, 0, 6, 4)), ["[2, 0, 6, 4]"]),
        ("bias_size", dict(bias=zeros(9)), ["bias", "[8]", "[9]"]),
        ("bias_rank", dict(bias=zeros(1, 8)), ["bias", "[1, 8]"]),
        ("bias_scalar", dict(bias=torch.tensor(1.0)), ["bias", "[]"]),
        ("w_double", dict(w=zeros(3, 3, 4, 8, dtype=torch.float64)), ["float", "double"]),
        ("bias_double", dict(bias=zeros(8, dtype=torch.float64)), ["bias", "float", "double"]),
    ]
]
ROWS += [
    ("conv2d_input", *row)
    for row in [
        ("grad_rank", dict(grad=zeros(3, 8)), ["grad", "[3, 8]"]),
        ("w_rank", dict(w=zeros(3, 4, 8)), ["w", "[3, 4, 8]"]),
        ("grad_channels", dict(grad=zeros(2, 3, 4, 7)), ["grad", "[2, 3, 4, 7]"]),
        ("grad_size", dict(grad=zeros(2, 3, 5, 8)), ["grad", "[2, 3, 5, 8]"]),
        ("input_size", dict(input_size=[6, 6]), ["grad", "[2, 3, 4, 8]", "[2, 4, 4, 8]"]),
        ("input_size_negative", dict(input_size=[5, -6]), ["input_size", "-6"]),
        ("input_size_zero", dict(input_size=[0, 6]), ["input_size", "0"]),
        ("input_size_three", dict(input_size=[5, 6, 4]), ["input_size", "[5, 6, 4]"]),
        ("o_groups", dict(groups=3), ["groups=3", "[3, 3, 4, 8]"]),
        ("dtypes", dict(w=zeros(3, 3, 4, 8, dtype=torch.float64)), ["float", "double"]),
        ("algorithm", dict(algorithm=9), ["algorithm", "9"]),
        ("algorithm_negative", dict(algorithm=-1), ["algorithm", "-1"]),
    ]
]
ROWS += [
    ("conv2d_weight", *row)
    for row in [
        ("grad_rank", dict(grad=zeros(3, 8)), ["grad", "[3, 8]"]),
        ("x_rank", dict(x=zeros(5, 6)), ["[5, 6]"]),
        ("batch", dict(grad=zeros(3, 3, 4, 8)), ["grad", "[3, 3, 4, 8]"]),
        ("grad_unbatched", dict(grad=zeros(3, 4, 8)), ["grad", "[3, 4, 8]"]),
        ("grad_size", dict(grad=zeros(2, 4, 4, 8)), ["grad", "[2, 4, 4, 8]"]),
        ("kernel_size", dict(kernel_size=[2, 3]), ["grad", "[2, 3, 4, 8]", "[2, 4, 4, 8]"]),
        ("kernel_size_zero", dict(kernel_size=[0, 3]), ["kernel_size", "0"]),
        ("kernel_size_negative", dict(kernel_size=[3, -3]), ["kernel_size", "-3"]),
        ("kernel_size_one", dict(kernel_size=[3]), ["kernel_size", "[3]"]),
        ("kernel_over_image", dict(kernel_size=[6, 3]), ["5 x 6", "6 x 3"]),
        ("c_groups", dict(groups=3), ["groups=3", "[2, 5, 6, 4]"]),
        ("dtypes", dict(x=zeros(2, 5, 6, 4, dtype=torch.float64)), ["float", "double"]),
        ("algorithm", dict(algorithm=9), ["algorithm", "9"]),
    ]
]
ROWS += [
    ("conv2d_packed", *row)
    for row in [
        ("weight_size", dict(weight=zeros(3, 3, 4, 9)), ["weight", "[3, 3, 4, 8]", "[3, 3, 4, 9]"]),
        ("weight_rank", dict(weight=zeros(3, 3, 32)), ["weight", "[3, 3, 4, 8]", "[3, 3, 32]"]),
        ("weight_oihw", dict(oihw=True), ["weight", "[3, 3, 4, 8]", "[4, 8, 3, 3]"]),
        ("weight_double", dict(weight=zeros(3, 3, 4, 8, dtype=torch.float64)), ["weight", "float", "double"]),
    ]
]


@pytest.mark.parametrize("op", [*FORWARD, *GRADIENT, "conv2d_packed"])
def test_good_arguments_are_good(op):
    assert run(op, good(op)).shape == run(op, on_meta(good(op))).shape


@pytest.mark.parametrize(("op", "what", "bad", "parts"), ROWS, ids=[f"{row[0]}-{row[1]}" for row in ROWS])
def test_bad_argument(op, what, bad, parts):
    arguments = {**good(op), **bad}
    with pytest.raises(RuntimeError) as real:
        run(op, arguments)
    assert type(real.value) is RuntimeError
    message = str(real.value)
    assert all(part in message for part in parts), message
    assert not re.search(r"\.(cpp|h|py)\b", message), "no path of a source file belongs into it"

    with pytest.raises(RuntimeError) as fake:
        run(op, on_meta(arguments))
    assert str(fake.value) == message


@pytest.mark.parametrize("op", FORWARD + GRADIENT)
def test_gradient_recording_changes_no_message(op):
    arguments = {**good(op), "stride": [0, 1]}
    with pytest.raises(RuntimeError) as plain:
        run(op, arguments)
    first = next(k for k, v in arguments.items() if isinstance(v, torch.Tensor))
    with pytest.raises(RuntimeError) as recorded:
        run(op, {**arguments, first: arguments[first].requires_grad_()})
    assert str(recorded.value) == str(plain.value)


@pytest.mark.parametrize("op", FORWARD + GRADIENT)
def test_mixed_devices(op):
    arguments = good(op)
    names = [k for k, v in arguments.items() if isinstance(v, torch.Tensor)]
    for name in names[1:]:
        with pytest.raises(RuntimeError, match=r"(?i)device.*(cpu|meta)"):
            run(op, {**arguments, name: arguments[name].to("meta")})


def huge_arguments(op):
    """Every integer of the geometry replaced, one at a time, by every huge value."""
    integers = {k: v for k, v in good(op).items() if isinstance(v, int | list)}
    for (name, value), huge in itertools.product(integers.items(), HUGE):
        if isinstance(value, int):
            yield op, name, huge
            continue
        # One padding of 2**31 alone is an output that some machines can hold.
        if name != "padding" or huge >= 2**62:
            for at in range(len(value)):
                yield op, name, [*value[:at], huge, *value[at + 1 :]]
        yield op, name, [huge] * len(value)


HUGE_ROWS = [row for op in FORWARD + GRADIENT for row in huge_arguments(op)]


@pytest.mark.parametrize(("op", "name", "value"), HUGE_ROWS, ids=lambda part: str(part).replace(" ", ""))
def test_huge_integer(op, name, value):
    arguments = {**good(op), name: value}
    if name == "stride" and op in FORWARD:
        # A stride past the image leaves one row or column of outputs: huge, and yet it means something.
        reference = {**arguments, "stride": [min(s, 7) for s in value]}
        assert torch.equal(run(op, arguments), run(op, reference))
        assert run(op, on_meta(arguments)).shape == run(op, reference).shape
        return
    for variant in (arguments, on_meta(arguments)):
        with pytest.raises(RuntimeError):
            run(op, variant)


@pytest.mark.parametrize("huge", HUGE)
@pytest.mark.parametrize("op", FORWARD)
def test_huge_steps_together(op, huge):
    """Taps so far apart that one of them meets the image: the right answer, or an exception."""
    x, w = torch.randn(2, 5, 6, 4), torch.randn(3, 3, 4, 8)
    steps = dict(stride=[huge] * 2, padding=[huge] * 2, dilation=[huge] * 2)
    try:
        out = run(op, dict(x=x, w=w, bias=None, **steps))
    except RuntimeError as error:
        assert str(huge) in str(error) or "elements" in str(error)
        return
    torch.testing.assert_close(out, (x[:, :1, :1] @ w[1, 1]))


@pytest.mark.parametrize("op", FORWARD)
def test_output_sizes_that_overflow(op):
    """Stride 0 makes an image of any size free; the output would not be."""
    x = zeros(1, 1, 1, 1).expand(2**56, 5, 6, 4)
    arguments = {**good(op), "x": x}
    for variant in (arguments, on_meta(arguments)):
        with pytest.raises(RuntimeError):
            run(op, variant)


def test_input_gradient_sizes_that_overflow():
    grad = zeros(1, 1, 1, 1).expand(2**56, 3, 4, 8)
    for variant in (dict(grad=grad), dict(input_size=[2**40, 2**40], stride=[2**40, 2**40])):
        with pytest.raises(RuntimeError):
            run("conv2d_input", {**good("conv2d_input"), **variant})


@pytest.mark.parametrize("name", ["nonsense", "", "IM2COL "])
def test_unknown_algorithm_lists_the_known_ones(name):
    x, w = good("conv2d")["x"], good("conv2d")["w"]
    with pytest.raises(ValueError, match="algorithm") as error:
        nhwc_conv.conv2d(x, w, algorithm=name)
    assert all(known in str(error.value) for known in (repr(name), "auto", "im2col", "matmul"))


def test_unknown_padding_string_lists_the_known_ones():
    x, w = good("conv2d")["x"], good("conv2d")["w"]
    with pytest.raises(ValueError, match="padding") as error:
        nhwc_conv.conv2d(x, w, padding="reflect")
    assert all(known in str(error.value) for known in ("'reflect'", "same", "same_lower", "valid"))


def test_weights_beyond_memory_are_not_packed():
    """Stride 0 makes a weight of any size free; its tiles are more than could be counted one by one."""
    w = zeros(1, 1, 1, 1).expand(3, 3, 4, 2**40)
    with pytest.raises(RuntimeError, match="memory|elements|allocate"):
        torch.ops.nhwc_conv.pack_weight(w)


def test_workspace_beyond_int64_is_refused(threads):
    """Its bytes are counted for each thread; wrapped around, they would be few and the first store out of bounds."""
    ops, grown = torch.ops.nhwc_conv, 2**43
    x, w = zeros(1, 1, 1, 2).double(), zeros(1, 2, 1, 4).double()
    wide_x, wide_w = zeros(1).expand(1, 4, 4, grown), zeros(1).expand(3, 3, grown, 1)
    for count in (1, 4):
        threads(count)
        with pytest.raises(RuntimeError, match="elements|memory"):
            ops.winograd(wide_x, wide_w, None, 1, 1)
        far = 2**44
        out = ops.conv2d(x, w, None, [1, far], [0, 0, far - 1, far - 1], 1, 2)
        assert torch.equal(out, zeros(1, 1, 2, 4).double())
    with pytest.raises(RuntimeError, match=r"at most 140737488355327, .*got padding=\[0, 0, 140737488355328"):
        ops.conv2d(x, w, None, 1, [0, 0, 2**47, 0])


@pytest.mark.needs_extension
def test_plans_of_huge_convolutions():
    """A plan costs no time that grows with a size: it is made before memory runs out."""
    wide = nhwc_conv.explain((1, 5, 6, 4), (3, 3, 4, 2**40))
    assert wide["workspace_shared"] >= 3 * 3 * 4 * 2**40 * 4 or not wide["packed_weights"]
    long = nhwc_conv.explain(
        (1, 2**40, 1, 1), (3, 1, 1, 1), stride=2**40, padding=(1, 0), direction="input_gradient"
    )
    assert long["phases"] == 2  # one of the taps meets no pixel


@pytest.mark.needs_extension
@pytest.mark.parametrize("op", ["im2col", "matmul", "conv2d"])
def test_kernel_of_more_rows_than_memory_holds(op):
    """By stride 0. Packed block by block, for few pixels, it would not end."""
    x = torch.randn(2, 10, 11, 10, dtype=torch.float64)
    w = torch.randn(1, 3, 5, 10, dtype=torch.float64).expand(2**36, 3, 5, 10)
    with pytest.raises(RuntimeError, match="not enough memory"):
        getattr(torch.ops.nhwc_conv, op)(x, w, groups=2, auto_pad=1)
