"""PyTorch's own samples of convolutions, in every dtype it lists for the CPU: results, gradients, second gradients.

The answer is torch's function in float64 or complex128. kinds.py says which there are, and what is ours.
"""

import pytest
import torch
from kinds import FORMS, KINDS, parametrize
from samples import absolute, assert_within_rounding, check_derivatives, exact, samples
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),  # PyTorch's forward-mode formulas
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel"),  # F.conv2d's, about a copy
    pytest.mark.filterwarnings("ignore:Casting complex values to real"),
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental"),
]
units = pytest.mark.parametrize("units", [False, True], ids=["rounding", "exact"])


@parametrize("kind, ours, dtype", [(kind, form, dtype) for kind, form in FORMS for dtype in kind.dtypes])
def test_forward(kind, ours, dtype):
    for tensors, kwargs in samples(kind.info, dtype):
        out = ours(*tensors, **kwargs)
        expected = kind.function(*tensors, **kwargs)
        assert out.dtype == expected.dtype
        if not (dtype.is_floating_point or dtype.is_complex):
            assert torch.equal(out, expected)
            continue
        magnitude = kind.function(*absolute(tensors), **kwargs)
        n, *_ = kind.lengths(*tensors[:2], out, kwargs.get("groups", 1))
        assert_within_rounding(out, kind.function(*exact(tensors), **kwargs), magnitude, dtype, n)


@units
@parametrize("kind, ours, dtype", [(*form, dtype) for form in FORMS for dtype in form[0].differentiable])
def test_gradients_and_second_gradients(kind, ours, dtype, units):
    for tensors, kwargs in samples(kind.info, dtype):
        functions = (lambda *ts, f=f: f(*ts, **kwargs) for f in (ours, kind.function))  # noqa: B023
        out = kind.function(*tensors, **kwargs)
        sums = kind.lengths(*tensors[:2], out, kwargs.get("groups", 1))
        check_derivatives(*functions, tensors, dtype, sums, units)


@parametrize(
    "kind, ours, dtype",
    [(*form, torch.float64) for form in FORMS] + [(kind, kind.forms[-1], torch.complex128) for kind in KINDS],
)
def test_gradcheck_and_gradgradcheck(kind, ours, dtype):
    options = dict(fast_mode=True, nondet_tol=kind.info.gradcheck_nondet_tol)
    for tensors, kwargs in list(samples(kind.info, dtype))[
        :: 2 if dtype.is_complex else 1
    ]:  # slow: only the batched ones
        leaves = [t.requires_grad_() for t in tensors]
        function = lambda *ts: ours(*ts, **kwargs)  # noqa: B023, E731
        assert gradcheck(function, leaves, check_forward_ad=True, check_batched_grad=True, **options)
        assert gradgradcheck(function, leaves, check_fwd_over_rev=True, **options)


@units
@parametrize("kind, dtype", [(kind, d) for kind in KINDS for d in (*kind.differentiable, torch.complex32)])
def test_module_samples(kind, dtype, units):
    """module_db's samples, in every dtype that torch's function differentiates and in complex32.

    It lists that for transposed layers alone.
    """
    torch.manual_seed(0)
    info = kind.module_info
    assert {*info.dtypes} <= {*kind.differentiable, torch.complex32}
    inputs = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=True)
    assert len(inputs) >= 2
    for sample in inputs:
        args, kwargs = sample.constructor_input.args, sample.constructor_input.kwargs
        layers = [cls(*args, **kwargs, dtype=dtype) for cls in kind.layers]
        functions = [
            lambda x, w, b, layer=layer: functional_call(layer, {"weight": w, "bias": b}, (x,))
            for layer in layers
        ]
        leaves = [sample.forward_input.args[0], *layers[1].parameters()]
        sums = kind.lengths(*leaves[:2], functions[1](*leaves))
        check_derivatives(*functions, leaves, dtype, sums, units)
        if dtype == torch.float64 and not units:
            leaves = [t.detach().requires_grad_() for t in leaves]
            assert gradgradcheck(functions[0], leaves, fast_mode=True)
