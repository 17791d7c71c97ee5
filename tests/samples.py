"""PyTorch's own samples of an op, and its derivatives in any dtype against those in double precision.

The maps are linear in each argument, so the bound for a result is gamma_n times the map of absolute values, as in
oracle.assert_close; n counts real terms.
"""

import oracle
import torch
from torch.testing._internal.common_methods_invocations import op_db


def op_info(name):
    (info,) = (info for info in op_db if info.name == name)
    return info


def in_order(dtypes):
    """Of a set, so that test names stay."""
    return sorted(dtypes, key=str)


def samples(info, dtype):
    """(tensors, keyword arguments) of every sample; a missing bias is missing."""
    torch.manual_seed(0)
    for sample in info.sample_inputs("cpu", dtype):
        yield [t for t in (sample.input, *sample.args) if t is not None], sample.kwargs


def draw(shape, dtype, units=False):
    """Random numbers, or -1, 0 and 1: every sum of their products here is exact, in every dtype."""
    if units:
        parts = [torch.randint(-1, 2, shape).to(dtype) for _ in range(2)]
        return parts[0] + 1j * parts[1] if dtype.is_complex else parts[0]
    return torch.testing.make_tensor(shape, device="cpu", dtype=dtype)


def exact(tensors):
    return [t.to(torch.complex128 if t.is_complex() else torch.float64) for t in tensors]


def absolute(tensors):
    return [t.abs().double() for t in tensors]


def first_and_second(function, leaves, grad, directions):
    """The result, its gradients, and those of their inner product with `directions`, also for `grad`."""
    leaves = [t.clone().requires_grad_() for t in leaves]
    grad = grad.clone().requires_grad_()
    out = function(*leaves)
    first = torch.autograd.grad(out, leaves, grad, create_graph=True)
    products = [d * v.conj() for d, v in zip(first, directions, strict=True)]
    inner = sum((p.to(torch.complex64) if p.dtype == torch.complex32 else p).sum() for p in products)
    second = torch.autograd.grad(inner.real if inner.is_complex() else inner, [*leaves[:2], grad])
    return [out.detach(), *(t.detach() for t in first), *second]


def assert_within_rounding(actual, expected, magnitude, dtype, n):
    """Nothing is off by more than rounding: gamma_n times the magnitude."""
    assert actual.dtype == dtype and actual.shape == expected.shape
    # aten multiplies complex numbers by three real products, each of up to 2 |a| |b|, and adds them.
    factor, n = (8, 2 * n + 3) if dtype.is_complex else (1, n)
    real = torch.finfo(dtype)
    # gamma says nothing of sums as long as this; of bfloat16, aten keeps theirs in float32.
    n = min(n, 0.25 / real.eps)
    bound = factor * oracle.gamma(n, getattr(torch, real.dtype)) * magnitude
    error = (actual.to(expected.dtype) - expected).abs()
    assert (error <= bound).all(), f"off by {float(error.max())}, may be {float(bound.max())}"


def check_derivatives(ours, theirs, leaves, dtype, lengths, units):
    """ours in `dtype` against theirs in double precision, on new tensors of the sizes of `leaves` (x, w, bias).

    `lengths` are those of the sums in what first_and_second returns: result, dx, dw, dbias; for x, w and grad.
    """
    leaves = [draw(t.shape, dtype, units) for t in leaves]
    grad = draw(theirs(*exact(leaves)).shape, dtype, units)
    directions = [draw(t.shape, dtype, units) for t in leaves]
    results, expected, magnitudes = (
        first_and_second(function, to(leaves), *to([grad]), to(directions))
        for function, to in ((ours, list), (theirs, exact), (theirs, absolute))
    )
    lengths = lengths if len(leaves) == 3 else (*lengths[:3], *lengths[4:])
    for got, want, magnitude, n in zip(results, expected, magnitudes, lengths, strict=True):
        if units:
            assert got.dtype == dtype and torch.equal(got.to(want.dtype), want)
        else:
            assert_within_rounding(got, want, magnitude, dtype, n)
