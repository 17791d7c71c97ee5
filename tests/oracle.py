"""What the answer is: float64 F.conv2d on an explicitly padded image, autograd, and the rounding bound."""

import functools

import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_map


def pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)


def four_sides(case):
    """(top, bottom, left, right) of a case, by TensorFlow's rule for SAME."""
    if not case.auto_pad:
        sides = pair(case.padding)
        return sides if len(sides) == 4 else (sides[0], sides[0], sides[1], sides[1])
    sides = []
    for size, kernel, stride, dilation in zip(
        case.x[-3:-1], case.w[:2], pair(case.stride), pair(case.dilation), strict=True
    ):
        total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        sides += [small, large] if case.auto_pad == 1 else [large, small]
    return tuple(sides)


def forward(case, x, w, bias=None):
    """The convolution of NHWC `x` and HWIO `w` in float64."""
    top, bottom, left, right = four_sides(case)
    image = F.pad(x.double().movedim(-1, -3), (left, right, top, bottom))
    kernel = w.double().permute(3, 2, 0, 1).contiguous()
    bias = None if bias is None else bias.double()
    stride, dilation = pair(case.stride), pair(case.dilation)
    return F.conv2d(image, kernel, bias, stride, 0, dilation, case.groups).movedim(-3, -1)


def gradients(case, x, w, bias, grad):
    """The gradients of x, w and (if there is one) bias for the output gradient `grad`, in float64."""
    leaves = [t.detach().double().requires_grad_() for t in (x, w, bias) if t is not None]
    out = forward(case, *leaves)
    return torch.autograd.grad(out, leaves, grad.double())


def remembered(function, most=12):
    """`function` of a case and tensors with its last answers: tests ask for one again for every op and instruction set.

    Answers belong to all values that they depend on, so that no test finds another's; none can be changed in place.
    """
    answers = {}

    @functools.wraps(function)
    def ask(case, *tensors):
        doubles = [t if t is None else t.detach().double().contiguous() for t in tensors]
        key = case, *(t if t is None else (t.shape, t.numpy().tobytes()) for t in doubles)
        answer = answers.pop(key, None)
        if answer is None:
            computed = function(case, *doubles)
            with torch.inference_mode():
                answer = tree_map(torch.clone, computed)
        answers[key] = answer
        if len(answers) > most:
            del answers[next(iter(answers))]
        return answer

    return ask


known_forward, known_gradients = remembered(forward), remembered(gradients)


def terms(case, out):
    """The number of terms summed in an element of the output, and of the gradients of x, w and bias."""
    kh, kw, c_per_group, o = case.w
    pixels = out.numel() // o
    return kh * kw * c_per_group + 1, kh * kw * (o // case.groups), pixels, pixels


def same_bits(a, b):
    """Whether real tensors are the same to the last bit: torch.equal takes -0.0 for 0.0."""
    whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    return a.dtype == b.dtype and torch.equal(*(t.contiguous().view(whole) for t in (a, b)))


def gamma(n, dtype):
    u = torch.finfo(dtype).eps / 2
    return n * u / (1 - n * u)


def sums_of(dtype):
    """The dtype in which sums are made."""
    return torch.float32 if dtype.itemsize == 2 else dtype


def rounded(bound, expected, dtype):
    """The bound of what sums within `bound` of `expected` become: half precision rounds them, to the nearest."""
    return bound + rounding(dtype) * (expected.abs() + bound)


def rounding(dtype):
    """The relative error that storage adds to a sum."""
    return torch.finfo(dtype).eps / 2 if dtype.itemsize == 2 else 0


def assert_close(actual, expected, magnitude, n):
    """|actual - expected| <= (gamma_n of its sums + gamma_n of the oracle's) * magnitude, elementwise, and `rounded`.

    Higham's bound for a sum of n products in any order, where magnitude is the sum of their absolute
    values. The map is linear in each argument: magnitude is the oracle applied to absolute values.
    """
    assert actual.shape == expected.shape
    bound = (gamma(n, sums_of(actual.dtype)) + gamma(n, torch.float64)) * magnitude
    bound = rounded(bound, expected, actual.dtype)
    error = (actual.double() - expected).abs()
    bad = ~(error <= bound)
    if bad.any():
        at = tuple(bad.nonzero()[0].tolist())
        raise AssertionError(
            f"{int(bad.sum())} of {bad.numel()} elements are off, first at {at}: {float(actual[at])}, "
            f"should be {float(expected[at])} +- {float(bound[at]):.3g}"
        )


def assert_close_to_largest(actual, expected, magnitude):
    """|actual - expected| <= 40 u * the largest magnitude: what is promised of Winograd's algorithm."""
    assert actual.shape == expected.shape
    if actual.numel() == 0:
        return
    u = torch.finfo(sums_of(actual.dtype)).eps / 2
    error = (actual.double() - expected).abs()
    beyond = (error - rounded(40 * u * magnitude.max(), expected, actual.dtype)).max()
    assert beyond <= 0, f"{beyond / u / magnitude.max():.3g} u * sum |x||w| beyond 40"


def check_forward(case, actual, x, w, bias=None):
    magnitude = known_forward(case, x.abs(), w.abs(), None if bias is None else bias.abs())
    assert_close(actual, known_forward(case, x, w, bias), magnitude, terms(case, actual)[0])


def check_gradients(case, actual, x, w, bias, grad):
    """`actual` holds the gradients of x, w and bias; None where one was not asked for."""
    expected = known_gradients(case, x, w, bias, grad)
    magnitude = known_gradients(case, x.abs(), w.abs(), None if bias is None else bias.abs(), grad.abs())
    lengths = terms(case, grad)[1 : 1 + len(expected)]
    for got, want, size, n in zip(actual, expected, magnitude, lengths, strict=True):
        if got is not None:
            assert_close(got, want, size, n)
