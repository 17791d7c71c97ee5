"""Who is timed on a layer: each op, prepacked weights, F.conv2d in both layouts, and NumPy on the notebook's."""

import re
from functools import lru_cache

import torch
import torch.nn.functional as F
from layers import LAYERS, Case

import nhwc_conv
from nhwc_conv import reference
from nhwc_conv._ops.recorded import convolve_packed, short_call

import oracle  # isort: skip  (from tests/, which layers has put on the path)

OPS = ["im2col", "matmul", "winograd", "conv2d", "prepacked"]
RIVALS = ["F.conv2d_nchw", "F.conv2d_channels_last"]
NUMPY = ["conv_naive", "conv_matmul", "conv_im2col"]
PARTS = ["forward", "input_gradient", "weight_gradient"]  # of a training step, as `contender` returns them
PASSES = [*PARTS, "train"]


def names(case: Case, pass_: str) -> list[str]:
    """Of OPS those that can compute this pass of this layer, and the rivals."""
    able = {
        "winograd": case.winograd_applies and case.groups == 1,  # depthwise: possible, and pointless
        "prepacked": pass_ == "forward",
    }
    numpy = NUMPY if case.name == "notebook" and pass_ == "forward" else []
    return [name for name in OPS if able.get(name, True)] + RIVALS + numpy


def contender(name, case, dtype, pass_):
    """A function without arguments that runs one pass on fixed data in the layout that suits it.

    To be timed inside of `grad_mode`: entering it for every call would cost as much as a small layer.
    """
    x, w, grad = (t.clone() for t in data(case, dtype, pass_))
    geometry = tuple(case.geometry.values())  # by position, as F.conv2d gets its own: names cost microseconds
    if name in NUMPY:
        function, x, w = getattr(reference, name), x.numpy(), w.numpy()
        return lambda: function(x, w)
    if name == "prepacked":
        packed = torch.ops.nhwc_conv.pack_weight(w, case.groups, case.stride == case.dilation == 1)
        short = short_call(False, *geometry)  # as a layer keeps it

        def run(x, w):
            return convolve_packed(x, packed, None, *short)
    elif name in OPS:
        op = getattr(torch.ops.nhwc_conv, name)

        def run(x, w):
            return op(x, w, None, *geometry)
    else:
        layout = torch.channels_last if name == "F.conv2d_channels_last" else torch.contiguous_format
        x, grad = (t.permute(0, 3, 1, 2).contiguous(memory_format=layout) for t in (x, grad))
        w = w.permute(3, 2, 0, 1).contiguous(memory_format=layout)

        def run(x, w):
            return F.conv2d(x, w, None, case.stride, case.padding, case.dilation, case.groups)

    if pass_ == "forward":
        return lambda: run(x, w)
    x.requires_grad_(pass_ != "weight_gradient"), w.requires_grad_(pass_ != "input_gradient")

    def step():
        out = run(x, w)
        return out.detach(), *torch.autograd.grad(out, (x, w), grad)

    if pass_ == "train":
        return step
    out, wanted = run(x, w), x if pass_ == "input_gradient" else w
    return lambda: torch.autograd.grad(out, wanted, grad, retain_graph=True)


def grad_mode(pass_):
    return torch.inference_mode(pass_ == "forward")


@lru_cache(maxsize=1)  # drawing them costs more than to time a small layer
def data(case, dtype, pass_):
    """x, w and an output gradient; of another pass they were made in another `grad_mode`."""
    x, w, _ = case.tensors(dtype)
    return x, w, case.grad_like(torch.ops.nhwc_conv.conv2d(x, w, None, **case.geometry))


def results(pass_):
    """Which of PARTS a pass returns."""
    return PARTS if pass_ == "train" else [pass_]


@lru_cache(maxsize=1)
def expected(case, dtype, pass_):
    """By part of the pass (value, magnitude), in float64, and the number of terms of a sum."""
    x, w, grad = data(case, dtype, pass_)
    answers = []
    for a, b, g in ((x, w, grad), (x.abs(), w.abs(), grad.abs())):
        gradients = oracle.gradients(case, a, b, None, g) if pass_ != "forward" else ()
        answers.append((oracle.forward(case, a, b), *gradients))
    values, magnitudes = answers
    terms = oracle.terms(case, values[0])
    parts = [PARTS.index(part) for part in results(pass_)]
    return {PARTS[i]: (values[i], magnitudes[i], terms[i]) for i in parts}


def verify(name, case, dtype, pass_, result):
    """Raises unless every tensor of the result is within the rounding error of its sums, or of Winograd's."""
    result = result if isinstance(result, tuple) else (result,)
    wanted = expected(case, dtype, pass_)
    for part, got in zip(wanted, result, strict=True):
        got = torch.as_tensor(got)
        if name in RIVALS:
            got = got.permute((2, 3, 1, 0) if part == "weight_gradient" else (0, 2, 3, 1))
        check(got, *wanted[part], runs_winograd(name, case, dtype, part))


def add_options(parser, rounds):
    """What compare.py and scaling.py measure, and how long."""
    parser.add_argument("--pass", dest="pass_", choices=PASSES, default="forward")
    parser.add_argument("--dtype", choices=["float32", "float64", "bfloat16", "float16"], default="float32")
    parser.add_argument("--layers", default="", help="regular expression on the names")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=0.02, help="per contender and round")


def chosen_layers(parser, pattern, layers=LAYERS):
    cases = [case for case in layers if re.search(pattern, case.name)]
    if not cases:
        parser.error(f"no layer is called {pattern!r}")
    return cases


def check(got, want, size, n, by_winograd):
    if by_winograd:
        oracle.assert_close_to_largest(got, want, size)
    else:
        oracle.assert_close(got, want, size, n)


def runs_winograd(name, case, dtype, part):
    """Whether a contender computes the result, or one of the gradients, of a layer by Winograd's algorithm."""
    if name == "conv2d":
        steps = case.stride, case.padding, case.dilation, case.groups
        plan = nhwc_conv.explain(case.x, case.w, *steps, dtype=dtype, direction=part)
        return plan["algorithm"] == "winograd"
    # Packed weights take Winograd's for more layers than weights as given, which `explain` does not tell.
    return name == "winograd" or (name == "prepacked" and case.winograd_applies)
